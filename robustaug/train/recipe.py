"""A training recipe: what a YAML under configs/train says."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from robustaug import registry
from robustaug.attacks.attack import Attack
from robustaug.attacks.pgd import PGD
from robustaug.attacks.text.attack import TextAttack
from robustaug.config import Ratio, Strict
from robustaug.evaluate.suite import make_attack, make_judge
from robustaug.pipeline import build
from robustaug.train.loss import Loss
from robustaug.train.schedule import Curriculum, Optimizer, refuse_unused
from robustaug.train.synthetic import Synthetic
from robustaug.train.tracking import Tracking

Spec = str | dict[str, dict[str, Any] | None]
"""`name`, or `{name: parameters}`."""


class TrainData(Strict):
    """Where training reads from: sources of family `data`.

    Attributes:
        train, validation: labelled; validation chooses the epoch that is kept, so it must be held back.
        unlabelled: whose labels are not looked at, for losses that learn from such samples too.
        unlabelled_ratio: so many of them for each labelled sample of a batch.
        synthetic: samples that were made, mixed in if they pass their gate.
        groups: metadata columns of both ("class" is one); samples with the same values are a group.
    """

    train: Spec
    validation: Spec
    unlabelled: Spec | None = None
    unlabelled_ratio: Annotated[float, Field(gt=0)] = 1.0
    synthetic: Synthetic | None = None
    groups: list[str] = []

    @model_validator(mode="after")
    def _used(self) -> TrainData:
        if self.unlabelled is None and self.unlabelled_ratio != 1:
            raise ValueError("unlabelled_ratio is given but there are no such samples; add `unlabelled:`")
        return self


class WeightPerturbation(Strict):
    """Train at weights moved towards a greater loss: adversarial weight perturbation, on top of any loss.

    Source: Wu et al. 2020, arXiv:2004.05884, equations 9 to 12.

    Attributes:
        gamma: length of the move as a share of each layer's norm; published 0.005.
        from_epoch: the first epoch with it.
    """

    gamma: Annotated[float, Field(gt=0)] = 0.005
    from_epoch: Annotated[int, Field(ge=0)] = 0


class Averaging(Strict):
    """Judge and keep an average of the weights instead of the last ones.

    Attributes:
        kind: "ema", exponential over steps; or "swa", even over epochs (Izmailov et al. 2018, arXiv:1803.05407), whose
            batch statistics are taken anew in one more pass over the training data an epoch.
        decay: of ema, reached from below: min(decay, (1 + n) / (10 + n)) after n steps.
        from_epoch: of swa, the first epoch that counts.
    """

    kind: Literal["ema", "swa"] = "ema"
    decay: Annotated[float, Field(gt=0, lt=1)] = 0.999
    from_epoch: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="after")
    def _used(self) -> Averaging:
        refuse_unused(self, self.kind, {"decay": "ema", "from_epoch": "swa"})
        return self


class Guard(Strict):
    """Keep only epochs whose clean accuracy stays near that of the checkpoint training starts from.

    Attributes:
        clean_drop: how much validation accuracy may fall, in [0, 1].
    """

    clean_drop: Annotated[Ratio, Field(ge=0, le=1)]


class Recipe(Strict):
    """One training run.

    Attributes:
        name: names the run folder.
        model: a registered model as `name` or `{name: parameters}`.
        data: what to train and validate on; an experiment fills it in where it is left out.
        checkpoint: start from these weights instead of fresh ones (fine-tuning).
        augment: a pipeline: a list of operators, as in `Pipeline.from_yaml`.
        strong: a pipeline on top of `augment` and `mix`, for losses that compare views of a sample.
        mix: a mixer, such as `mixing.cutmix`: samples and labels mixed after `augment`. A sample's partner is another
            of its batch, of this process's share where there are several.
        loss: a registered loss.
        attack: train on its points (Madry et al. 2018, arXiv:1706.06083), made at every step against the label itself,
            or against the greater part of a mixed one: attacks lead away from a class, not from shares of several. Of
            several attacks the losses are averaged (Tramer & Boneh 2019, arXiv:1904.13000, section 4.1).
        clean_share: weight in [0, 1] of the loss on unattacked images when there is an attack.
        curriculum: lets the attacks' eps grow.
        replays: above 1, "free" training: this many updates a batch, whose gradients also move the attack's points
            (Shafahi et al. 2019, arXiv:1904.12843); of the attack only norm, eps and box count then.
        weight_perturbation: see `WeightPerturbation`.
        validation_attack: judges epochs by robust accuracy, one on texts where the data are; of several a sample must
            withstand all. When left out the training attacks, but for those that take one step: a model may learn to
            withstand just that step, so PGD of 10 steps in their norm, eps and box judges in their place.
        validation_limit: at most this many validation samples, a seeded random choice, are attacked each epoch.
        epochs: passes over the training data.
        batch_size: samples an update, over all processes.
        accumulate: passes in which a batch goes through the model, one after another; saves memory.
        precision: of the passes; weights and losses stay float32. "fp16" scales its gradients.
        channels_last: lay images and weights out with their channels last.
        compile: run the network through torch.compile.
        workers: processes that read ahead; 0 reads in this one.
        averaging, guard: see there.
        snapshots: with `optimizer: {schedule: cycles, cycles: M}` keep the weights at the end of each cycle; the
            trained model is the ensemble of all M, also kept as `ensemble/model.safetensors`. See `train.snapshots`.
        select: what makes an epoch the best: "robust", accuracy under attack where it is measured, then accuracy; or
            "worst_group", accuracy in the group of `data.groups` where it is lowest.
        patience: stop after this many epochs without a better one; None never does.
        save_every_s: store the state about this often within an epoch, in seconds.
        tracking: see there.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    seed: Annotated[int, Field(ge=0)] = 0
    model: Spec
    checkpoint: str | None = None
    data: TrainData | None = None
    augment: list[Any] = []
    strong: list[Any] = []
    mix: Spec | None = None
    loss: Spec = "loss.cross_entropy"
    attack: Spec | list[Spec] | None = None
    clean_share: Annotated[Ratio, Field(ge=0, le=1)] = 0.0
    curriculum: Curriculum | None = None
    replays: Annotated[int, Field(ge=1)] = 1
    weight_perturbation: WeightPerturbation | None = None
    validation_attack: Spec | list[Spec] | None = None
    validation_limit: Annotated[int, Field(ge=1)] = 512
    epochs: Annotated[int, Field(ge=1)]
    batch_size: Annotated[int, Field(ge=1)] = 128
    accumulate: Annotated[int, Field(ge=1)] = 1
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    channels_last: bool = False
    compile: bool = False
    workers: Annotated[int, Field(ge=0)] = 0
    optimizer: Optimizer = Optimizer()
    averaging: Averaging | None = None
    guard: Guard | None = None
    snapshots: bool = False
    select: Literal["robust", "worst_group"] = "robust"
    patience: Annotated[int, Field(ge=1)] | None = None
    save_every_s: Annotated[float, Field(gt=0)] = 300.0
    tracking: Tracking = Tracking()

    @field_validator("augment", "strong")
    @classmethod
    def _buildable(cls, pipeline: list[Any]) -> list[Any]:
        build(pipeline, "")
        return pipeline

    @field_validator("model", "mix")
    @classmethod
    def _known(cls, spec: Any, info: Any) -> Any:
        if spec is not None:
            registry.read_spec(spec, {"model": "model", "mix": "mixer"}[info.field_name])
        return spec

    @field_validator("loss")
    @classmethod
    def _makes_a_loss(cls, spec: Any) -> Any:
        _made(spec)
        return spec

    @field_validator("attack", "validation_attack")
    @classmethod
    def _makes_attacks(cls, spec: Any, info: Any) -> Any:
        for one in _listed(spec):
            try:
                if info.field_name == "validation_attack":
                    make_judge(one)
                else:
                    _check_trainable(make_attack(one))
            except TypeError as error:
                raise ValueError(str(error)) from None
        return spec

    @model_validator(mode="after")
    def _consistent(self) -> Recipe:
        loss = self.make_loss()
        if self.attack in (None, []):
            for key in ("clean_share", "curriculum"):
                if value := getattr(self, key):
                    shown = f"{value:g}" if isinstance(value, float) else "given"
                    raise ValueError(f"{key} is {shown} but there is no attack; remove it or add `attack:`")
            if self.replays > 1:
                raise ValueError(f"replays is {self.replays} but there is no attack, whose norm and eps count; add it")
        if self.clean_share and not loss.one_prediction:
            raise ValueError(f"clean_share is for losses of one prediction; {loss.name} weighs clean samples itself")
        if "x_adv" in loss.needs and self.attack in (None, []):
            raise ValueError(f"{loss.name} compares samples with attacked ones; add `attack:`, such as attack.pgd")
        if loss.twice and self.compile:
            raise ValueError(f"{loss.name} differentiates twice, which torch.compile does not; set compile: false")
        if (loss.views or "strong" in loss.needs) and not self.strong:
            raise ValueError(
                f"{loss.name} compares views of a sample; add `strong:`, such as `strong: [policy.augmix]`"
            )
        if self.strong and not (loss.views or "strong" in loss.needs):
            raise ValueError(f"{loss.name} looks at one view of a sample; what `strong:` holds belongs in `augment:`")
        if self.replays > 1 and (len(_listed(self.attack)) > 1 or self.weight_perturbation):
            raise ValueError(
                "replays moves one attack's points with the updates' own gradients: give one attack and "
                "no weight_perturbation"
            )
        if (self.curriculum or self.replays > 1) and any(math.isinf(attack.eps) for attack in self.make_attacks()):
            raise ValueError("curriculum and replays need attacks with a budget; give each an eps, such as eps: 8/255")
        for key, part in (("averaging", self.averaging), ("weight_perturbation", self.weight_perturbation)):
            if part is not None and part.from_epoch >= self.epochs:
                raise ValueError(f"{key}.from_epoch is {part.from_epoch} of {self.epochs} epochs, so it never begins")
        if loss.norm is not None and any(attack.norm != loss.norm for attack in self.make_attacks()):
            raise ValueError(f"{loss.name} is for attacks in {loss.norm}; give it one, such as attack.fgsm")
        if self.data is not None and self.data.synthetic is not None:
            self.data.synthetic.check_ratio(self.batch_size)
        if self.guard is not None and self.checkpoint is None:
            raise ValueError("guard compares with the checkpoint that training starts from; add `checkpoint:`")
        self._check_snapshots()
        return self

    def _check_snapshots(self) -> None:
        if not self.snapshots:
            return
        cycles = self.optimizer.cycles
        if self.optimizer.schedule != "cycles" or cycles < 2 or self.epochs % cycles:
            raise ValueError(
                "snapshots are taken at the end of cycles: set optimizer.schedule: cycles and optimizer.cycles: 2 or "
                f"more, of which epochs is a multiple; got {self.optimizer.schedule}, {cycles} and {self.epochs} epochs"
            )
        for key in ("averaging", "guard", "patience"):
            if getattr(self, key) is not None:
                raise ValueError(f"snapshots keep every cycle's own last weights; leave {key} out")

    def settings(self) -> dict[str, Any]:
        """Return the fields that weights depend on, as JSON holds them; the others may change between resumptions."""
        return self.model_dump(mode="json", exclude={"save_every_s", "workers", "tracking"})

    def make_loss(self) -> Loss:
        """Return the recipe's loss."""
        return _made(self.loss)

    def make_attacks(self) -> list[Attack]:
        """Return the attacks of training."""
        return [make_attack(spec) for spec in _listed(self.attack)]

    def judges(self) -> tuple[list[Attack | TextAttack], Attack | None]:
        """Return what attacks validation samples, and the training's own attack if it takes fewer steps: just one."""
        trained = self.make_attacks()
        judges = [make_judge(spec) for spec in _listed(self.validation_attack)] or [*map(_of_more_steps, trained)]
        most = max((judge.steps for judge in judges if isinstance(judge, Attack)), default=0)
        return judges, trained[0] if len(trained) == 1 and trained[0].steps == 1 < most else None


def _check_trainable(attack: Attack) -> None:
    """Refuse an attack that has no last point to train on, or several."""
    if type(attack).pursue is not Attack.pursue:
        raise ValueError(f"{attack.name} runs others in turn and has no point of its own; train with one of them")
    if attack.restarts != 1:
        raise ValueError(f"{attack.name}: training takes one start a sample; set restarts to 1, not {attack.restarts}")


def _of_more_steps(attack: Attack) -> Attack:
    """Return PGD for an attack of one step within a norm ball, and any other as it is."""
    if attack.steps > 1 or attack.norm not in PGD.norms or math.isinf(attack.eps):
        return attack
    return PGD(norm=attack.norm, eps=attack.eps, box=attack.box)


def _listed(spec: Spec | list[Spec] | None) -> list[Spec]:
    return [] if spec is None else spec if isinstance(spec, list) else [spec]


def _made(spec: Any) -> Loss:
    try:
        return registry.make(spec, "loss")
    except TypeError as error:
        raise ValueError(str(error)) from None
