"""The basic iterative method."""

from robustaug.attacks.pgd import PGD
from robustaug.attacks.preset import preset

preset(
    "attack.bim",
    PGD,
    """Climb the loss from the sample itself, in steps of equal length: the basic iterative method, or I-FGSM.

    Kurakin et al. 2017, "Adversarial examples in the physical world", arXiv:1607.02533, section 2.2. It is
    `attack.pgd` without the random start, with that attack's steps; the paper's own are step_size="1/255".
    """,
    tags={"gradient", "transfer"},
    random_start=False,
)
