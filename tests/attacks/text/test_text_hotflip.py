"""HotFlip against exhaustive flips, on models whose gradients are exact, and on a small network."""

import pytest
import torch
from torch import nn

import robustaug
from robustaug.attacks.text.asking import Tokens
from robustaug.attacks.text.sentence import split

GOOD, BAD = ["good", "great", "fine", "lovely", "super"], ["bad", "awful", "poor", "dull", "weak"]
PLAIN = ["film", "plot", "cast", "scene", "story", "music", "book", "end"]
WORDS = ["<pad>", "<unk>", *GOOD, *BAD, *PLAIN, "two words", "Un"]


class Reader(nn.Module):
    """Words to embeddings, and a head on them that does not see the padding."""

    def __init__(self, head, width=6, dtype=torch.float64, seed=0):
        super().__init__()
        draw = torch.Generator().manual_seed(seed)
        self.table = nn.Parameter(torch.randn(len(WORDS), width, generator=draw, dtype=dtype))
        self.head = head
        self.vocabulary = WORDS
        self.gradients = 0

    @property
    def embeddings(self):
        return self.table

    def tokens(self, texts):
        """Words that begin with "un" are two tokens, as a subword tokenizer has them."""
        rows = []
        for text in texts:
            at, row = 0, []
            [sentence] = split([text])
            for gap, word in zip(sentence.gaps, sentence.words, strict=False):
                at += len(gap)
                cuts = [2, len(word)] if word.startswith("un") and len(word) > 2 else [len(word)]
                for begin, end in zip([0, *cuts], cuts, strict=False):
                    known = WORDS.index(w) if (w := word[begin:end].lower()) in WORDS else 1
                    row.append((known, at + begin, at + end))
                at += len(word)
            rows.append(row)
        most = max([1, *map(len, rows)])
        filled = torch.tensor([[*row, *[(0, 0, 0)] * (most - len(row))] for row in rows])
        return Tokens(*filled.unbind(2))

    def logits_from_embeddings(self, embedded, tokens):
        self.gradients += len(embedded) * embedded.requires_grad
        return self.head(embedded, (tokens.ids > 0).to(embedded.dtype))

    def forward(self, texts):
        tokens = self.tokens(texts)
        return self.logits_from_embeddings(self.table[tokens.ids], tokens)


class Mean(nn.Module):
    """Linear on the sum of the embeddings: the gradient is exact for any flip."""

    def __init__(self, width=6):
        super().__init__()
        draw = torch.Generator().manual_seed(1)
        self.weight = torch.randn(width, 3, generator=draw, dtype=torch.float64)

    def forward(self, embedded, mask):
        return (embedded * mask[..., None]).sum(1) @ self.weight


class Cnn(nn.Module):
    def __init__(self, width=6):
        super().__init__()
        self.filters, self.out = nn.Conv1d(width, 8, 3, padding=1), nn.Linear(8, 2)

    def forward(self, embedded, mask):
        found = torch.relu(self.filters((embedded * mask[..., None]).transpose(1, 2)))
        return self.out(found.mul(mask[:, None]).amax(2))


def reviews(n, seed=0):
    """Texts of plain words and one to three of either feeling."""
    draw = torch.Generator().manual_seed(seed)

    def pick(words):
        return words[int(torch.randint(len(words), (1,), generator=draw))]

    texts, labels = [], []
    for row in range(n):
        feeling = [pick((GOOD, BAD)[row % 2]) for _ in range(1 + row % 3)]
        words = [pick(PLAIN) for _ in range(5)] + feeling
        order = torch.randperm(len(words), generator=draw).tolist()
        texts.append(" ".join(words[i] for i in order))
        labels.append(row % 2)
    return texts, labels


@pytest.fixture(scope="module")
def network():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Reader(Cnn().double())
    texts, labels = reviews(120, seed=1)
    tokens = model.tokens(texts)
    optimiser = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(40):
        optimiser.zero_grad()
        nn.functional.cross_entropy(
            model.logits_from_embeddings(model.table[tokens.ids], tokens), torch.tensor(labels)
        ).backward()
        optimiser.step()
    optimiser.zero_grad()
    model.gradients = 0
    return model.eval()


def flip(**params):
    return robustaug.create("attack.text_hotflip", **{"max_rate": 1.0, "stop_words": []} | params)


def objective(model, texts, label):
    with torch.no_grad():
        z = model(texts)
    others = z.clone()
    others[:, label] = -torch.inf
    return others.amax(1) - z[:, label]


def flips(text):
    words = text.split()
    usable = [w for w in WORDS[2:] if " " not in w]
    return [
        " ".join([*words[:i], new, *words[i + 1 :]])
        for i in range(len(words))
        for new in usable
        if new != words[i].lower()
    ]


def test_one_flip_of_a_linear_model_is_the_best_of_all_flips():
    """With two classes, so that no other class can overtake: the promise is then the exact gain."""
    head = Mean()
    head.weight = head.weight[:, :2]
    model = Reader(head).eval()
    texts = reviews(20)[0]
    labels = model(texts).argmax(1)
    result = flip(max_edits=1, candidates=1)(model, texts, labels)
    for row, text in enumerate(texts):
        everything = objective(model, flips(text), labels[row])
        if not result.success[row]:
            assert everything.max() <= 0
        assert float(objective(model, [result.text_adv[row]], labels[row])[0]) == pytest.approx(float(everything.max()))
    assert result.success.sum() > 0
    assert (result.queries == 3).all()  # the clean text, one gradient, one flip


def test_a_wide_search_finds_whatever_one_flip_can_do(network):
    texts, labels = reviews(24, seed=3)
    right = (network(texts).argmax(1) == torch.tensor(labels)).tolist()
    assert sum(right) > 20
    result = flip(max_edits=1, candidates=10_000, width=50)(network, texts, labels)
    for row, text in enumerate(texts):
        if right[row]:
            assert bool(result.success[row]) == bool((objective(network, flips(text), labels[row]) > 0).any())


def test_it_breaks_a_network_within_the_limits_and_counts_its_gradients(network):
    texts, labels = reviews(60, seed=2)
    assert (network(texts).argmax(1) == torch.tensor(labels)).double().mean() > 0.9
    network.gradients = 0
    few, more = (flip(max_rate=rate, candidates=5)(network, texts, labels) for rate in (0.15, 0.45))
    assert few.success.sum() < more.success.sum()
    assert more.success.double().mean() > 0.8
    assert torch.equal(more.verified, more.success)
    assert (more.edit_rate <= 0.45).all()
    assert network.gradients > 0
    beam = flip(max_rate=0.45, candidates=5, width=4)(network, texts, labels)
    assert beam.success.sum() >= more.success.sum()


@pytest.mark.parametrize("params", [{}, {"width": 3, "unit": "character", "max_rate": 0.4}, {"targeted": True}])
def test_results_do_not_depend_on_the_batch(network, params):
    texts, labels = reviews(12, seed=4)
    texts, labels = [*texts, "", "good", "?!", "unheard untold film"], [*labels, 0, 0, 1, 1]
    target = torch.tensor([1 - y for y in labels]) if "targeted" in params else None
    attack = flip(**params)
    whole = attack(network, texts, labels, target=target)
    for row, text in enumerate(texts):
        alone = attack(network, [text], labels[row : row + 1], target=None if target is None else target[row : row + 1])
        assert alone.text_adv == whole.text_adv[row : row + 1]
        for column in ("success", "verified", "edits", "queries"):
            assert torch.equal(getattr(alone, column)[0], getattr(whole, column)[row]), column


def test_words_of_several_tokens_and_stop_words_stay(network):
    text = "unheard film untold plot bad scene"
    result = flip(stop_words=["plot"], protected=["scene"])(network, [text] * 2, [0, 1])
    for changed in result.text_adv:
        assert [changed.split()[i] for i in (0, 2, 3, 5)] == ["unheard", "untold", "plot", "scene"]
        assert not {"two", "words", "<unk>", "unk"} & {*changed.split()}


def test_replacements_are_near_in_the_embedding_where_that_is_asked(network):
    texts, labels = reviews(40, seed=5)
    result = flip(min_cosine=0.3)(network, texts, labels)
    known = [word.lower() for word in WORDS]
    rows = nn.functional.normalize(network.table.detach(), dim=1)
    pairs = [
        (a, b) for x, y in zip(texts, result.text_adv, strict=True) for a, b in zip(x.split(), y.split(), strict=True)
    ]
    changed = [(a, b) for a, b in pairs if a != b]
    assert changed
    assert all(rows[WORDS.index(a)] @ rows[known.index(b.lower())] >= 0.3 for a, b in changed)
    assert torch.equal(result.verified, result.success)


def test_replacements_come_from_the_source_where_there_is_one(network):
    texts, labels = reviews(40, seed=6)
    source = {word: ["film", "plot", "unknown"] for word in GOOD + BAD}
    result = flip(synonyms=source)(network, texts, labels)
    changed = {
        (a, b)
        for x, y in zip(texts, result.text_adv, strict=True)
        for a, b in zip(x.split(), y.split(), strict=True)
        if a != b
    }
    assert changed
    assert all(a in GOOD + BAD and b in ("film", "plot") for a, b in changed)
    assert torch.equal(result.verified, result.success)


def test_a_budget_counts_gradients_too(network):
    texts, labels = reviews(20, seed=7)
    for budget in (1, 2, 8):
        assert (flip(candidates=4)(network, texts, labels, budget=budget).queries <= budget).all()


def test_the_model_is_left_as_found(network):
    texts, labels = reviews(10, seed=8)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    state = torch.random.get_rng_state()
    flip()(network, texts, labels)
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert all(p.grad is None for p in network.parameters())
    assert torch.equal(torch.random.get_rng_state(), state)
    with torch.inference_mode():
        flip()(network, texts, labels)


def test_float32_models_work_too():
    class Small(Mean):
        def forward(self, embedded, mask):
            return (embedded * mask[..., None]).sum(1) @ self.weight.float()

    model = Reader(Small(), dtype=torch.float32).eval()
    texts = reviews(10)[0]
    assert flip()(model, texts, model(texts).argmax(1)).success.any()


def test_models_that_do_not_show_enough_are_refused():
    with pytest.raises(TypeError, match=r"the model must offer vocabulary, .* lacks vocabulary, embeddings, tokens"):
        flip()(lambda texts: torch.zeros(len(texts), 2), ["a"], [0])
    model = Reader(Mean()).eval()
    model.vocabulary = WORDS[1:]
    with pytest.raises(ValueError, match="embeddings must have one row a word: 21 words"):
        flip()(model, ["a b"], [int(model(["a b"]).argmax())])
    hidden = Reader(lambda embedded, mask: Mean()(embedded.detach(), mask)).eval()
    with pytest.raises(ValueError, match="logits_from_embeddings has no gradient"):
        flip()(hidden, ["good film"], [int(hidden(["good film"]).argmax())])


@pytest.mark.parametrize("params", [{"min_cosine": 2.0}, {"candidates": 0}, {"synonyms": 3}])
def test_bad_parameters_are_refused(params):
    with pytest.raises(ValueError, match=f"attack.text_hotflip: {next(iter(params))} must be"):
        flip(**params)
    with pytest.raises(TypeError, match="no parameter 'ranking'"):
        flip(ranking="none")
