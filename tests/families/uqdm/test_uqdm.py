"""The UQDM walk on toy networks: universal quantization, boxes, both entropy modes, answers that
fall short, rounding of floats.
"""

import dataclasses
import math
from itertools import pairwise

import numpy as np
import pytest
from conftest import photograph
from toys import SPACES, Floats, Integers, ToyCodec, constants

from uqdm.entropy.tables import Cells
from uqdm.errors import LimitError, NumericsError, PackageError
from uqdm.families.uqdm.paper import Paper
from uqdm.families.uqdm.rounding import MARGIN
from uqdm.families.uqdm.tight import Tight
from uqdm.walk import Guesser, walk

FAMILIES = [Tight, Paper]


class Answerer:
    """Answers from pictures, at most `limit` symbols a question in the chunks from `first` on;
    keeps the ideal bits of each chunk.
    """

    def __init__(self, values, limit=None, first=0):
        self.values, self.limit, self.first = values, limit, first
        self.bits, self.step = {}, 0

    def side(self, model, state):
        self.step = state.step
        return model.side(state)

    def __call__(self, i, question):
        part = slice(0, question.size)
        symbols, table = question.symbols(self.values[i], part), question.table(part)
        masses = table.masses(part) if isinstance(table, Cells) else table
        assert (masses.sum(1) == 2**24).all()
        assert (
            masses >= (np.arange(masses.shape[1]) < question.children(part)[:, None])
        ).all()  # every child can be sent
        assert (symbols >= 0).all()
        assert (symbols < question.children(part)).all()
        self.bits[self.step] = (
            self.bits.get(self.step, 0) + (24 - np.log2(np.take_along_axis(masses, symbols[:, None], 1))).sum()
        )
        return symbols if self.limit is None or self.step < self.first else symbols[: self.limit]


def encode(model, rgb, seeds=(0,), grey=False):
    """States after every chunk, the first being the start, with the ideal bits of each chunk."""
    answerer = Answerer(model.values(rgb))
    start = model.start(rgb.shape[2:], seeds, grey)
    states = [start, *walk(model, start, answerer)]
    return states, list(answerer.bits.values())


def pixels(h=24, w=20, seed=0, grey=False):
    rgb = photograph(h, w, seed).transpose(2, 0, 1)[None]
    return np.repeat(rgb[:, 1:2], 3, 1) if grey else rgb


@pytest.mark.parametrize("grey", [False, True])
@pytest.mark.parametrize("network", [Floats, Integers])
@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("family", FAMILIES)
def test_the_walk_ends_with_the_picture_itself(family, space, network, grey) -> None:
    for size in ((1, 1), (1, 7), (13, 20)):
        model = family(constants(space), network())
        rgb = pixels(*size, grey=grey)
        states, _ = encode(model, rgb, grey=grey)
        assert len(states) == model.chunks + 1
        assert [state.step for state in states] == list(range(model.chunks + 1))
        assert (model.denoise(states[-1]) == rgb).all()
        assert model.bound(states[-1]) == [0]


@pytest.mark.parametrize("grey", [False, True])
@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("family", FAMILIES)
def test_boxes_are_small_integers_that_shrink_and_always_hold_the_picture(family, space, grey) -> None:
    model = family(constants(space), Integers(sees_z=True))
    rgb = pixels(grey=grey)
    v = model.values(rgb)
    assert v.dtype == np.int16
    states, _ = encode(model, rgb, grey=grey)
    for before, after in pairwise(states):
        assert after.low.dtype == after.high.dtype == np.int16
        assert (after.low >= before.low).all()
        assert (after.high <= before.high).all()
        assert (after.low <= v).all()
        assert (v <= after.high).all()


@pytest.mark.parametrize("step", [0, 1, 2])
def test_the_noise_of_universal_quantization_is_uniform_and_ignores_the_picture(step) -> None:
    model = Tight(constants(), Floats(sees_z=True))
    rgb = pixels(64, 64)
    states, _ = encode(model, rgb)
    c = model.constants
    x = (model.values(rgb) - 127.5) / 128
    before, after = states[step].z, states[step + 1].z
    delta = c.widths[step][0] / 2**16 / 128 * c.c[step]
    noise = ((after - c.b[step] * before - c.c[step] * x) / delta).ravel()
    n = noise.size
    assert np.abs(noise).max() <= 0.5 + 1e-4
    ordered = np.sort(noise) + 0.5
    assert np.abs(ordered - np.arange(n) / n).max() < 1.95 / math.sqrt(n)  # Kolmogorov-Smirnov, 0.1 %
    assert abs(np.corrcoef(noise, x.ravel())[0, 1]) < 4 / math.sqrt(n)


def test_the_last_latent_has_the_variance_of_the_gaussian_forward_process() -> None:
    # Appendix A.2: z_t given x has the mean alpha_t x and the variance sigma_t^2 whatever the
    # noise's shape, but for b z_T.
    model = Paper(constants(), Floats())
    rgb = pixels(64, 64)
    states, _ = encode(model, rgb)
    c = model.constants
    x = (model.values(rgb) - 127.5) / 128
    for t in (1, 2, 3, 4):
        error = states[t].z - c.alpha[t] * x
        assert error.std() == pytest.approx(c.sigma[t], rel=0.03)


def test_z_is_kept_only_where_something_needs_it() -> None:
    for family, sees_z, kept in ((Tight, False, False), (Tight, True, True), (Paper, False, True)):
        model = family(constants(), Integers(sees_z=sees_z))
        assert (model.start((3, 4), (0,)).z is not None) == kept


def test_tight_never_costs_more_than_what_is_left_and_paper_costs_more_than_tight() -> None:
    rgb = pixels(32, 32)
    _, tight = encode(Tight(constants(), Floats()), rgb)
    _, paper = encode(Paper(constants(), Floats()), rgb)
    assert sum(tight) < sum(paper)
    assert len(tight) == 4
    assert len(paper) == 5


def test_tight_lengths_are_a_distribution_over_pictures() -> None:
    # One coordinate, three channels fixed: the code lengths of all 256 values of one channel must
    # satisfy Kraft with equality (each value's path is one leaf of a tree whose tables sum to one),
    # up to the integer tables' leftovers: each of at most four tables leaves at most 1,024 of its
    # 2**24 parts to no child.
    class Alone(Floats):
        def __call__(self, step, z, low, high):
            return (low + high) / 2, np.log2((high - low + 1) / 5.0)

    model = Tight(constants(), Alone())
    total = 0.0
    for value in range(256):
        rgb = np.zeros((1, 3, 1, 1), np.uint8)
        rgb[0, 0] = value
        length = []

        class Listening(Answerer):
            def __call__(self, i, question):
                part = slice(0, question.size)
                symbols, masses = question.symbols(self.values[i], part), question.table(part).masses(part)
                at = question.asked == 0
                length.append((24 - np.log2(np.take_along_axis(masses, symbols[:, None], 1)))[at].sum())  # noqa: B023
                return symbols

        for _ in walk(model, model.start((1, 1), (0,)), Listening(model.values(rgb))):
            pass
        total += 2 ** -sum(length)
    assert 1 - 4 * 1024 / 2**24 <= total <= 1 + 1e-12


# --- answers that fall short


@pytest.mark.parametrize("grey", [False, True])
@pytest.mark.parametrize("network", [Floats(), Integers(mixed=True), Integers(sees_z=True)])
@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("family", FAMILIES)
def test_every_answered_prefix_is_a_state_that_holds_the_truth_and_more_symbols_never_widen_a_box(
    family, space, network, grey
) -> None:
    model = family(constants(space), network)
    rgb = pixels(9, 8, grey=grey)
    values = model.values(rgb)
    whole, _ = encode(model, rgb, grey=grey)
    for k, begin in enumerate(whole[:-1]):
        size = model.question(begin, 0, model.side(begin))[0].size
        before = begin
        for limit in (0, 1, 2, size // 3, size // 2, size - 1, size):
            state = next(walk(model, begin, Answerer(values, limit)))
            assert state.cut == (limit < size)
            assert state.step == k + (limit >= size)
            assert (state.low <= values).all()
            assert (values <= state.high).all()
            assert (state.low >= before.low).all()
            assert (state.high <= before.high).all()
            assert (whole[k + 1].low >= state.low).all()
            assert (whole[k + 1].high <= state.high).all()
            mean = model.mean(state) if state.step < model.chunks else state.low.astype(np.int32) << 16
            if family is Tight or state.cut:
                assert (mean >= state.low.astype(np.int32) << 16).all()
                assert (mean <= state.high.astype(np.int32) << 16).all()
            preview = model.denoise(state)
            assert np.abs(preview.astype(int) - rgb).max() <= model.bound(state)[0]
            if space == "rgb" and (family is Tight or state.cut):
                assert (preview >= state.low).all()
                assert (preview <= state.high).all()
            before = state
        assert (state.low == whole[k + 1].low).all()
        assert (state.high == whole[k + 1].high).all()


@pytest.mark.parametrize("family", FAMILIES)
def test_an_answer_that_falls_short_leaves_the_rest_as_it_was(family) -> None:
    model = family(constants(), Floats())
    rgb = pixels()
    full, _ = encode(model, rgb)
    states = list(walk(model, model.start(rgb.shape[2:], (0,)), Answerer(model.values(rgb), 100, first=1)))
    assert len(states) == 2
    cut = states[1]
    assert (cut.step, cut.cut) == (1, True)
    asked = model.question(full[1], 0, model.side(full[1]))[0].asked
    new = np.zeros(cut.low.size, bool)
    new[asked[:100]] = True
    assert (np.where(new, full[2].low.ravel(), full[1].low.ravel()) == cut.low.ravel()).all()
    assert (np.where(new, full[2].high.ravel(), full[1].high.ravel()) == cut.high.ravel()).all()


def test_the_middle_of_a_step_gets_better_with_every_part_of_it() -> None:
    for network in (Floats(), Integers(), Integers(mixed=True)):
        model = Tight(constants(), network)
        rgb = pixels(32, 32)
        values = model.values(rgb)
        begin = encode(model, rgb)[0][2]
        size = model.question(begin, 0, model.side(begin))[0].size
        shown = [model.denoise(next(walk(model, begin, Answerer(values, size * i // 5)))) for i in range(1, 6)]
        errors = [((one.astype(float) - rgb) ** 2).mean() for one in shown]
        assert all(a > b for a, b in pairwise(errors))


# --- grey, sizes, previews


@pytest.mark.parametrize("space", SPACES)
def test_grey_pictures_are_three_equal_channels_at_the_price_of_one(space) -> None:
    rgb = pixels(grey=True)
    for family in FAMILIES:
        model = family(constants(space), Floats())
        start = model.start(rgb.shape[2:], (0,), True)
        for question in model.question(start, 0, model.side(start)):
            assert question.size <= rgb[0, 0].size
        states, grey = encode(model, rgb, grey=True)
        for state in states[:-1]:
            preview = model.denoise(state)
            assert np.abs(preview.astype(int) - preview[:, 1:2]).max() <= 1
        _, colour_bits = encode(model, rgb)
        assert sum(grey) < 0.75 * sum(colour_bits)


@pytest.mark.parametrize("steps", [1, 2, 8])
def test_any_number_of_steps_works(steps) -> None:
    gamma = tuple(np.linspace(6, -12.3, steps + 1))
    for family in FAMILIES:
        model = family(constants("rgb", gamma), Floats())
        states, _ = encode(model, pixels())
        assert (model.denoise(states[-1]) == pixels()).all()


@pytest.mark.parametrize("method", ["denoise", "flow"])
def test_previews_improve_with_every_step_and_stay_in_the_box(method) -> None:
    model = Tight(constants(), Floats())
    rgb = pixels(48, 48)
    states, _ = encode(model, rgb)
    errors = []
    for state in states:
        preview = getattr(model, method)(state).astype(int)
        assert (preview >= state.low).all()
        assert (preview <= state.high).all()
        errors.append(((preview - rgb.astype(int)) ** 2).mean())
    assert all(a > b for a, b in pairwise(errors))


def test_the_bound_of_a_published_preview_is_none_since_nothing_holds_it_in_the_boxes() -> None:
    model = Paper(constants(), Floats())
    states, _ = encode(model, pixels(10, 10))
    assert [model.bound(state)[0] for state in states[:4]] == [255] * 4
    assert model.bound(states[4])[0] <= 1
    assert model.bound(states[5])[0] == 0


# --- floats become integers in one place


class Boundary(Floats):
    """The toy, with one location and one scale of every step where an offset of 0 rounds them to
    either side; and `drift` added.
    """

    def __init__(self, place=(5, 6), drift=0.0, **options):
        super().__init__(**options)
        self.place, self.drift = place, drift

    def __call__(self, step, z, low, high):
        location, scale = super().__call__(step, z, low, high)
        y, x = self.place
        location[:, 0, y, x] = 100 + 2.0**-9 if step else 120 + 2.0**-9  # half a step of the finest grid
        scale[:, 0, y, x] = -5  # level 0, whose grid is the finest
        scale[:, 1, y, x] = 1 + 1 / 16  # half between two levels
        random = np.random.default_rng(step)
        return location + self.drift * random.choice([-1, 1], location.shape), scale + self.drift * random.choice(
            [-1, 1], scale.shape
        )


@pytest.mark.parametrize("mode", ["tight", "paper"])
def test_a_float_on_a_rounding_boundary_moves_the_grid_and_a_small_drift_changes_nothing(mode) -> None:
    picture = photograph(14, 12)
    writer = ToyCodec(Boundary(sees_z=True))
    data = writer.compress(picture, mode=mode)
    family = writer.family(mode)
    start = family.start((14, 12), (0,))
    (side,) = family.side(start)
    assert len(side) == family.side_size == 1
    assert side != b"\0"
    plain = ToyCodec(Floats()).family(mode)
    assert plain.side(plain.start((14, 12), (0,))) == [b"\0"]
    for drift in (1e-13, 1e-12, 1e-11):
        assert drift < MARGIN / 2**8
        other = ToyCodec(Boundary(drift=drift, sees_z=True))
        assert other.compress(picture, mode=mode) == data
        assert (other.decompress(data) == picture).all()
        for n in range(80, len(data), 201):
            assert (other.decompress(data[:n]) == writer.decompress(data[:n])).all()


def test_without_the_offset_that_drift_would_be_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("uqdm.families.uqdm.rounding.MARGIN", 0.0)
    data = ToyCodec(Boundary()).compress(photograph(14, 12))
    with pytest.raises(NumericsError):
        ToyCodec(Boundary(drift=1e-12)).decompress(data)


@pytest.mark.parametrize("mode", ["tight", "paper"])
def test_a_larger_drift_is_noticed_or_harmless_and_never_a_wrong_picture(mode) -> None:
    picture = photograph(24, 22)
    data = ToyCodec(Boundary()).compress(picture, mode=mode)
    found = []
    for drift in 10.0 ** np.arange(-10, 2):
        other = ToyCodec(Boundary(drift=float(drift)))
        try:
            assert (other.decompress(data) == picture).all()
            found.append("same")
        except NumericsError:
            found.append("refused")
    assert found[0] == "same"
    assert found[-4:] == ["refused"] * 4


def test_each_picture_of_a_batch_has_its_own_offset() -> None:
    class OfOne(Floats):
        def __call__(self, step, z, low, high):
            location, scale = super().__call__(step, z, low, high)
            scale[1, 0, 0, 0] = 1 + 1 / 16
            return location, scale

    family = Tight(constants(), OfOne())
    a, b = family.side(family.start((4, 4), (0, 1)))
    assert a == b"\0"
    assert b != b"\0"


@pytest.mark.parametrize("family", FAMILIES)
def test_exact_networks_need_no_offset(family) -> None:
    model = family(constants(), Integers())
    assert model.side_size == 0
    assert model.side(model.start((4, 4), (0, 1))) == [b"", b""]


def test_an_output_that_is_not_finite_is_refused() -> None:
    class Broken(Floats):
        def __call__(self, step, z, low, high):
            location, scale = super().__call__(step, z, low, high)
            return location, np.where(scale > 0, np.nan, scale)

    with pytest.raises(NumericsError, match=r"step 1: .*not finite"):
        ToyCodec(Broken()).compress(photograph(4, 4))


def test_packages_with_constants_that_cannot_be_are_refused() -> None:
    good = constants()
    for changes in (
        {"alpha": good.alpha[:-1]},
        {"widths": ((0, 0, 0),) * 4},
        {"widths": ((15, 16, 16),) * 4},
        {"widths": ((2**31,) * 3,) * 4},
        {"prior": good.prior[:3000]},
        {"space": "hsv"},
        {"sigma": (float("inf"),) * 5},
        {"scale": (128.0, 128.0, -1.0)},
        {"priority": (0, 0)},
        {"priority": (0, 0, 64)},
        {"priority": (0, 0, 0.5)},
    ):
        with pytest.raises(PackageError):
            dataclasses.replace(good, **changes)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("grey", [False, True])
def test_intervals_may_be_as_wide_as_the_package_may_say(family, grey) -> None:
    # Their ends left 16 bits, and whole files came back wrong without an error.
    model = family(dataclasses.replace(constants(), widths=((2**31 - 1,) * 3, *constants().widths[1:])), Integers())
    values = model.values(np.repeat(photograph(16, 16)[None, None, ..., 1], 3, 1))
    *_, last = walk(model, model.start((16, 16), (1,), grey), Answerer(values))
    assert (model.denoise(last) == values).all()


@pytest.mark.parametrize("space", SPACES)
def test_a_published_models_sample_is_what_was_drawn_last_whatever_its_boxes_say(space) -> None:
    # Intervals drawn by chance contradict each other in `Paper`, and samples were the largest of
    # their lower ends.
    model = Paper(constants(space), Integers())
    states = list(walk(model, model.start((12, 12), (3,)), Guesser(3)))
    assert (states[-1].low == states[-1].high).all()
    assert any((state.low > state.high).any() for state in states)
    assert all(bound >= 0 for state in states for bound in model.bound(state))


def test_a_picture_of_more_coordinates_than_have_numbers_is_refused() -> None:
    with pytest.raises(LimitError, match="at most 715,827,882 pixels"):
        Tight(constants(), Integers()).start((1 << 15, 1 << 15), (0,))
