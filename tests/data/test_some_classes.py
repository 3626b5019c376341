import pytest

import robustaug

OF = {"data.digits": {"split": "test"}}


def test_classes_are_numbered_in_the_order_given_and_samples_keep_their_index():
    whole = robustaug.create("data.digits", split="test")
    part = robustaug.create("data.some_classes", of=OF, keep=["8", 3])
    assert part.classes == ["8", "3"]
    assert len(part) == int(((whole.labels == 8) | (whole.labels == 3)).sum())
    label = dict(zip(whole.sample_index.tolist(), whole.labels.tolist(), strict=True))
    for position in (0, 5, len(part) - 1):
        sample = part[position]
        assert label[sample.index] == int(part.classes[sample.label])
        assert part.cohorts["class"][position] == part.classes[sample.label]
    assert [*part.cohorts] == [*whole.cohorts]
    other = robustaug.create("data.some_classes", of=OF, keep=["3", "8"])
    assert len({whole.fingerprint, part.fingerprint, other.fingerprint}) == 3
    assert whole.classes == [str(digit) for digit in range(10)]  # the source itself is as it was


@pytest.mark.parametrize(
    ("keep", "words"), [([], "one at least"), (["1", "1"], "none twice"), (["eleven"], "has no class 'eleven'")]
)
def test_what_cannot_be_kept_is_refused(keep, words):
    with pytest.raises(ValueError, match=words):
        robustaug.create("data.some_classes", of=OF, keep=keep)
