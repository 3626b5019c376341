"""Other libraries' attacks by their own names, judged as ours are: `robustaug.create("torchattacks.PGD", steps=20)`."""
