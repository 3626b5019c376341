"""AugmentedLoader as a drop-in: length, attributes, epochs, early ends, failures, CUDA."""

import gc
import os
import pickle
import signal
from collections import UserDict

import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

import robustaug
from robustaug.data.loader import AugmentedLoader

IMAGES = torch.randint(0, 256, (20, 1, 5, 5), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
DATA = TensorDataset(IMAGES, torch.arange(20), torch.arange(20))
NOISE = robustaug.create("image.gaussian_noise", sigma=0.2)


def load(**options):
    return DataLoader(DATA, batch_size=6, **options)


def images(loader):
    return torch.cat([batch[0] for batch in loader])


def expected(epoch=0, seed=0):
    return NOISE(IMAGES, seed=seed, epoch=epoch)


def test_length_and_attributes_are_the_loaders():
    inner = load(drop_last=True)
    loader = AugmentedLoader(inner, NOISE)
    assert len(loader) == len(inner) == 3
    assert loader.dataset is DATA
    assert (loader.batch_size, loader.drop_last, loader.sampler) == (6, True, inner.sampler)
    with pytest.raises(AttributeError, match="no_such"):
        _ = loader.no_such
    assert pickle.loads(pickle.dumps(loader)).batch_size == 6


def test_each_iteration_is_the_next_epoch_and_set_epoch_overrides():
    loader = AugmentedLoader(load(), NOISE, seed=4)
    assert torch.equal(images(loader), expected(0, 4))
    assert torch.equal(images(loader), expected(1, 4))
    loader.set_epoch(9)
    assert torch.equal(images(loader), expected(9, 4))
    assert torch.equal(images(loader), expected(10, 4))


def test_labels_and_other_entries_pass_through():
    for image, label, index in AugmentedLoader(load(), NOISE, device="cpu"):
        assert image.dtype == torch.uint8
        assert torch.equal(label, index)


def test_nested_batches_keep_their_types():
    class Fields(UserDict):
        pass

    def collate(items):
        image, label, index = torch.utils.data.default_collate(items)
        return Fields(image=image, index=index, more={"label": [label, "text"], "none": None})

    loader = AugmentedLoader(load(collate_fn=collate), NOISE, device="cpu")
    batch = next(iter(loader))
    assert type(batch) is Fields
    assert batch["more"]["label"][1] == "text"
    assert batch["more"]["none"] is None
    assert torch.equal(batch["image"], expected()[:6])


def test_floating_images_stay_floating():
    data = TensorDataset(IMAGES.float() / 255, torch.arange(20), torch.arange(20))
    got = images(AugmentedLoader(DataLoader(data, batch_size=6), NOISE))
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, NOISE(IMAGES.float() / 255))


@pytest.mark.parametrize(
    ("batch", "error", "message"),
    [
        ((IMAGES.float(), 0), ValueError, "must be in .*divide by 255"),
        ((IMAGES.long(), 0), TypeError, "image must be uint8 or floating, got torch.int64"),
        ((IMAGES[0], 0), ValueError, "a batch of images must have shape"),
        (("a.png", 0), TypeError, "image must be a torch.Tensor, got str"),
        ((), TypeError, "empty sequence"),
    ],
)
def test_a_first_batch_that_no_operator_can_read_is_refused(batch, error, message):
    with pytest.raises(error, match=message):
        [*AugmentedLoader([batch], NOISE)]


def test_any_iterable_will_do_with_or_without_a_length():
    class Stream(IterableDataset):
        def __iter__(self):
            return iter(zip(IMAGES, range(20), range(20), strict=True))

    stream = AugmentedLoader(DataLoader(Stream(), batch_size=6), NOISE, progress=True)
    assert torch.equal(images(stream), expected())
    assert len([*AugmentedLoader([(IMAGES, 0)] * 2, NOISE)]) == 2
    assert [*AugmentedLoader([], NOISE)] == []


def test_progress_changes_no_batch_and_shows_the_epoch(capsys):
    assert torch.equal(images(AugmentedLoader(load(), NOISE, progress=True)), expected())
    assert "epoch 0" in capsys.readouterr().out


@pytest.mark.parametrize("progress", [False, True])
def test_an_early_end_leaves_no_worker_and_no_bar(progress):
    import multiprocessing

    loader = AugmentedLoader(load(num_workers=2), NOISE, progress=progress)
    for _ in loader:
        break
    gc.collect()
    assert not multiprocessing.active_children()
    assert len([*loader]) == 4, "it can be iterated again, and a second bar can be shown"


def test_two_iterations_at_once_do_not_mix():
    loader = AugmentedLoader(load(), NOISE)
    pairs = [*zip(loader, loader, strict=True)]
    assert torch.equal(torch.cat([one[0] for one, _ in pairs]), expected(0))
    assert torch.equal(torch.cat([other[0] for _, other in pairs]), expected(1))


def test_a_killed_worker_is_an_error_and_no_hang():
    class Deadly(TensorDataset):
        def __getitem__(self, k):
            if k == 13:
                os.kill(os.getpid(), signal.SIGKILL)
            return super().__getitem__(k)

    with pytest.raises(RuntimeError, match=r"killed by signal|exited unexpectedly"):
        images(AugmentedLoader(DataLoader(Deadly(*DATA.tensors), batch_size=6, num_workers=2), NOISE))


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
class TestCuda:
    @pytest.mark.parametrize("options", [{}, {"pin_memory": True}, {"pin_memory": True, "num_workers": 2}], ids=str)
    def test_batches_are_those_of_the_cpu_up_to_rounding(self, options):
        loader = AugmentedLoader(load(**options), NOISE, device="cuda")
        for epoch in range(2):
            batches = [*loader]
            assert {tensor.device.type for batch in batches for tensor in batch} == {"cuda"}
            got = torch.cat([batch[0] for batch in batches]).cpu().int()
            assert (got - expected(epoch).int()).abs().max() <= 1

    def test_a_batch_handed_over_is_not_overwritten_by_those_staged_ahead(self):
        torch.manual_seed(0)
        data = TensorDataset(torch.randint(0, 256, (256, 3, 128, 128), dtype=torch.uint8), torch.arange(256))
        flip = robustaug.create("image.horizontal_flip", p=1.0)
        weight = torch.randn(4096, 4096, device="cuda")
        for image, label in AugmentedLoader(DataLoader(data, batch_size=16, pin_memory=True), flip, device="cuda"):
            for _ in range(20):  # keeps the consumer's stream behind the side stream
                weight = weight @ weight / weight.norm()
            total = image.long().sum(dim=(1, 2, 3))
            assert torch.equal(total.cpu(), data.tensors[0][label.cpu()].long().sum(dim=(1, 2, 3)))

    def test_batches_that_are_on_the_device_already(self):
        batches = [(IMAGES.cuda(), torch.arange(20).cuda(), torch.arange(20).cuda())]
        [(image, _, _)] = AugmentedLoader(batches, NOISE, device="cuda")
        assert (image.cpu().int() - expected().int()).abs().max() <= 1
