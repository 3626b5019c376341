import time

import torch

from robustaug.laps import Laps


def test_work_within_another_part_counts_once():
    laps = Laps(torch.device("cpu"))
    begun = time.perf_counter()
    with laps.of("data"):
        time.sleep(0.01)
        with laps.of("augment"):
            time.sleep(0.02)
    whole = time.perf_counter() - begun
    seconds = laps.seconds()
    assert seconds.keys() == {"data", "augment"}
    assert seconds["augment"] >= 0.02
    assert seconds["data"] >= 0.01
    assert sum(seconds.values()) <= whole
