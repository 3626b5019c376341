"""Names: making, listing, registering, mistaking them, and third parties' plug-ins."""

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import robustaug
from robustaug import registry
from robustaug.ops.operator import Operator


@pytest.fixture
def scratch():
    """Take back what a test registers, and nothing that a family loads by itself."""
    robustaug.list()
    before = dict(registry._entries)
    yield
    registry._entries.clear()
    registry._entries.update(before)


def test_a_spec_is_a_name_or_a_name_with_parameters():
    assert registry.spec_name({"data.digits": None}) == registry.spec_name("data.digits") == "data.digits"
    entry, params = registry.read_spec({"data.digits": {"split": "val"}}, "model", "source")
    assert (entry.name, params) == ("data.digits", {"split": "val"})
    assert len(registry.make({"data.digits": {"split": "val"}})) == 297


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"data.digits": {}, "data.photos": {}}, "must read `name` or `{name: parameters}`, got {'data.digits'"),
        (3, "must read `name` or `{name: parameters}`, got 3"),
        ({"data.digits": 3}, "'data.digits': its parameters must be a mapping, got 3"),
        ("image.rotate", "'image.rotate' is of kind 'operator', not 'model' or 'source'; `robustaug ops list --kind "),
        ("data.digit", "unknown name 'data.digit'; did you mean 'data.digits'"),
    ],
)
def test_specs_of_another_form_or_kind_are_refused(spec, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        registry.read_spec(spec, "model", "source")


def test_create_passes_parameters_on():
    operator = robustaug.create("image.brightness", factor=(0.8, 1.2), p=0.5)
    assert operator.spec() == {"image.brightness": {"factor": [0.8, 1.2], "p": 0.5}}


def test_list_filters_by_kind_modality_and_tag():
    names = robustaug.list(kind="operator", modality="image")
    assert names == sorted(names)
    assert {"image.brightness", "image.gaussian_blur", "image.jpeg"} <= set(names)
    noise = robustaug.list(kind="operator", modality="image", tag="noise")
    assert set(robustaug.list(tag="noise")) == {*noise, *robustaug.list(modality="signal", tag="noise")}
    assert "image.gaussian_noise" in noise
    assert "image.brightness" not in noise
    assert set(noise) < set(names)
    assert "compose.one_of" in robustaug.list(kind="combinator")
    assert set(robustaug.list(modality="image")) >= set(names)


def test_everything_is_listed_without_filters():
    everything = robustaug.list()
    assert set(robustaug.list(kind="operator")) < set(everything)
    assert {name.partition(".")[0] for name in everything} >= {"image", "compose", "attack", "data", "model"}


@pytest.mark.parametrize(
    ("filters", "message"),
    [
        ({"kind": "operators"}, "unknown kind 'operators'; did you mean 'operator'.*known: .*'attack'"),
        ({"modality": "images"}, "unknown modality 'images'; did you mean 'image'"),
        ({"kind": "operator", "tag": "noisy"}, "unknown tag 'noisy'; did you mean 'noise'"),
    ],
)
def test_unknown_filters_name_the_nearest(filters, message):
    with pytest.raises(ValueError, match=message):
        robustaug.list(**filters)


@pytest.mark.parametrize(
    ("name", "near"),
    [("image.blurr", "image.box_blur"), ("image.gausian_blur", "image.gaussian_blur"), ("imag.rotate", "image.rotate")],
)
def test_unknown_names_come_with_the_nearest(name, near):
    with pytest.raises(ValueError, match=rf"unknown name '{name}'; did you mean .*'{near}'"):
        robustaug.create(name)


def test_a_name_like_no_other_gets_no_suggestion():
    with pytest.raises(ValueError, match=r"unknown name 'zzzzzzzzzzzzz'$"):
        robustaug.create("zzzzzzzzzzzzz")


def test_a_registered_class_learns_its_name(scratch):
    @registry.register("image.test_nothing", tags={"colour", "odd"})
    class Nothing(Operator):
        """Do nothing.

        At all.
        """

        def formula(self, image):
            return image

    assert Nothing.name == "image.test_nothing"
    assert isinstance(robustaug.create("image.test_nothing"), Nothing)
    assert robustaug.list(tag="odd") == ["image.test_nothing"]
    entry = registry.lookup("image.test_nothing")
    assert (entry.kind, entry.modality, entry.summary) == ("operator", "image", "Do nothing.")


def test_functions_register_too(scratch):
    @registry.register("image.test_fixed_brightness")
    def fixed_brightness(factor=1.1):
        """Brighten by a fixed factor."""
        return robustaug.create("image.brightness", factor=factor)

    assert robustaug.create("image.test_fixed_brightness").spec() == {"image.brightness": {"factor": 1.1}}


def test_a_name_is_taken_once(scratch):
    robustaug.list(kind="operator")
    with pytest.raises(ValueError, match=r"'image.rotate' is already registered by .*geometry\.Rotate; choose another"):
        registry.register("image.rotate")(lambda: None)


@pytest.mark.parametrize("name", ["rotate", "image.", ".rotate", "image.Rotate"])
def test_malformed_names_are_refused(name):
    with pytest.raises(ValueError, match=r"name must read 'family\.thing' in lower case"):
        registry.register(name)


def test_a_new_family_must_say_its_kind(scratch):
    with pytest.raises(ValueError, match="unknown family 'smell'; pass kind="):
        registry.register("smell.rose")
    registry.register("smell.rose", kind="operator", modality="smell")(lambda: "rose")
    assert robustaug.create("smell.rose") == "rose"
    assert robustaug.list(kind="operator", modality="smell") == ["smell.rose"]


def test_a_family_that_fails_to_import_fails_again(scratch, monkeypatch):
    monkeypatch.setitem(registry.FAMILIES, "broken", registry.Family("operator", None, "robustaug.no_such_module"))
    for _ in range(2):
        with pytest.raises(ModuleNotFoundError):
            registry.lookup("broken.thing")


def install_plugin(folder: Path, name: str, code: str) -> None:
    """Lay out a distribution as pip would: a module and its dist-info."""
    (folder / f"{name}.py").write_text(textwrap.dedent(code), encoding="utf-8")
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text(f"[robustaug.operators]\n{name} = {name}\n", encoding="utf-8")


def run(folder: Path, code: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "PYTHONPATH": path},
    )


def test_plugins_register_and_a_broken_one_only_warns(tmp_path):
    install_plugin(
        tmp_path,
        "halving_plugin",
        """
        from robustaug import register
        from robustaug.ops.operator import Operator

        @register("image.halve_all", tags={"colour"})
        class Halve(Operator):
            "Halve every value."
            def formula(self, image):
                return image / 2
        """,
    )
    install_plugin(tmp_path, "broken_plugin", "raise OSError('no such sensor')")
    done = run(
        tmp_path,
        """
        import torch, robustaug
        assert robustaug.create("image.halve_all")(torch.ones(1, 2, 2)).max() == 0.5
        assert "image.halve_all" in robustaug.list(kind="operator", tag="colour")
        assert "image.rotate" in robustaug.list(kind="operator")
        """,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("plug-in 'broken_plugin' (broken_plugin) failed to load: no such sensor") == 1


def test_importing_the_package_imports_no_torch(tmp_path):
    done = run(tmp_path, "import sys, robustaug; assert 'torch' not in sys.modules, 'torch was imported'")
    assert done.returncode == 0, done.stderr
