"""Training measures each run once, goes on where it stopped, and reports on groups that it did not train on."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, replace

import numpy as np
import pytest

from trajkit.attribution.linear import LinearEstimator
from trajkit.attribution.measure import MeasuredStore, Measuring, generation_of, generations, measure, measure_runs
from trajkit.attribution.network import NetworkEstimator
from trajkit.attribution.seen import image_hash
from trajkit.attribution.training import train_estimator
from trajkit.demo.items import demo_items
from trajkit.errors import InputError
from trajkit.vlm.generation import Sampling

HOW = Measuring(n_masks=8)
SAMPLING = Sampling(1.0, 60, 0)


def items(n=6):
    return demo_items("validation", n, seed=5)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("measured")


@pytest.fixture(scope="module")
def trained(demo_vlm, folder):
    store = MeasuredStore(folder, asdict(HOW))
    return train_estimator(demo_vlm, items(), kind="linear", how=HOW, sampling=SAMPLING, store=store, steps=5)


def test_a_report_says_what_was_measured_and_how_faithful_the_estimator_is(trained):
    estimator, report = trained
    assert isinstance(estimator, LinearEstimator)
    assert report.runs == 6
    assert report.steps == estimator.card["steps"] > 6
    assert report.passes > 6 * (1 + 8 + 16)
    assert report.peak_gb > 0.1
    assert 0 <= report.r2 <= 1
    assert estimator.card["trained_on_runs"] == 5


def test_runs_already_measured_are_read_and_no_pass_is_made(demo_vlm, trained, folder, monkeypatch):
    monkeypatch.setattr(demo_vlm.model, "generate", None)
    store = MeasuredStore(folder, asdict(HOW))
    again, report = train_estimator(
        demo_vlm, items(), kind="network", how=HOW, sampling=SAMPLING, store=store, epochs=1
    )
    assert isinstance(again, NetworkEstimator)
    assert report.steps == trained[1].steps


def test_an_interrupted_measuring_goes_on_and_ends_as_if_it_had_not_been(
    demo_vlm, folder, trained, tmp_path, monkeypatch
):
    from trajkit.attribution import measure as module

    store, whole = MeasuredStore(tmp_path, asdict(HOW)), MeasuredStore(folder, asdict(HOW))
    begun = measure_runs(demo_vlm, items(), HOW, sampling=SAMPLING, store=store)
    for _ in range(3):
        next(begun)
    begun.close()
    made = []
    monkeypatch.setattr(module, "measure", lambda *a, real=module.measure: made.append(a) or real(*a))
    runs = list(measure_runs(demo_vlm, items(), HOW, sampling=SAMPLING, store=store))
    assert len(made) == 3
    for item, run in zip(items(), runs, strict=True):
        expected = whole.read(item)
        np.testing.assert_array_equal(run.tokens, expected.tokens)
        np.testing.assert_allclose(run.effects, expected.effects, atol=1e-3)
        assert expected.seconds > 0


def test_another_question_or_picture_under_the_same_id_is_measured_anew(folder, trained):
    store, item = MeasuredStore(folder, asdict(HOW)), next(iter(items(1)))
    assert store.has(item)
    assert store.read(replace(item, group_id="other")).group_id == "other"
    assert not store.has(replace(item, question="sort row 2 down."))
    assert not store.has(replace(item, image=item.image.transpose(0)))


def test_a_measured_run_gives_its_generation_back(demo_vlm, folder, trained):
    store, item = MeasuredStore(folder, asdict(HOW)), next(iter(items(1)))
    run = generation_of(demo_vlm, item, store.read(item), "vision")
    assert len(run.spans) == len(store.read(item).features)


def test_other_settings_are_refused(folder, trained):
    with pytest.raises(InputError, match="measured with ablation 'mean', and these are to be measured with 'tokens'"):
        MeasuredStore(folder, asdict(HOW) | {"ablation": "tokens"})


def test_settings_without_any_run_are_replaced(tmp_path):
    for ablation in ("mean", "tokens"):
        MeasuredStore(tmp_path, asdict(HOW) | {"ablation": ablation}).hold()
    assert json.loads((tmp_path / "settings.json").read_text())["ablation"] == "tokens"


def test_a_damaged_file_is_named(folder, trained, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    store = MeasuredStore(copy, asdict(HOW))
    item = next(iter(items(1)))
    path = store._path(item)
    whole = path.read_bytes()
    for damaged in (b"cut off", whole[: len(whole) // 2], whole[:400] + b"\0\0\0" + whole[403:]):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=r"is damaged.*remove it"):
            store.read(item)
    (copy / "settings.json").write_text("{")
    with pytest.raises(InputError, match=r"settings\.json is damaged"):
        MeasuredStore(copy, asdict(HOW))


def test_an_overflow_names_its_question(demo_vlm):
    run = next(generations(demo_vlm, items(1), Sampling(0), "vision"))
    gain = demo_vlm.model.model.language_model.norm.weight
    whole = gain.data.clone()
    try:
        gain.data[:] = 3e38
        with pytest.raises(InputError, match=f"run '{run.item.id}': its features hold NaN or infinite"):
            measure(demo_vlm, run, HOW)
    finally:
        gain.data[:] = whole


def test_a_kept_run_that_is_not_finite_is_named_and_nothing_is_trained_on_it(demo_vlm, folder, trained, tmp_path):
    store, item = MeasuredStore(folder, asdict(HOW)), next(iter(items(1)))
    run = store.read(item)
    bad = np.where(np.arange(len(run.effects))[:, None] == 3, np.nan, run.effects)
    assert replace(run, effects=bad).fault() == "its effects hold NaN or infinite values"
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    path = MeasuredStore(copy, asdict(HOW))._path(item)
    with np.load(path) as file:
        np.savez(path, **{**file, "effects": bad})
    store, sampling = MeasuredStore(copy, asdict(HOW)), SAMPLING
    with pytest.raises(InputError, match=r"is damaged \(its effects hold NaN or infinite values\); remove it"):
        train_estimator(demo_vlm, items(), kind="linear", how=HOW, sampling=sampling, store=store, steps=5)


def test_an_estimator_says_which_images_it_was_trained_on_and_which_were_held_out(trained):
    card = trained[0].card
    hashes = sorted(image_hash(item.image) for item in items())
    assert len(card["images_trained_on"]) == card["trained_on_runs"] == 5
    assert sorted(card["images_trained_on"] + card["images_held_out"]) == hashes
    assert card["images_trained_on"] == sorted(card["images_trained_on"])


def test_an_image_that_is_trained_on_and_held_out_under_another_group_is_told(demo_vlm, folder, trained):
    store, all_items = MeasuredStore(folder, asdict(HOW)), list(items())
    hidden = trained[0].card["images_held_out"][0]
    (held_out,) = [item for item in all_items if image_hash(item.image) == hidden]
    copy = replace(held_out, id="copy", group_id=all_items[all_items[0] is held_out].group_id)
    with pytest.warns(UserWarning, match="1 of 1 images held out are also among those trained on"):
        estimator, _ = train_estimator(
            demo_vlm, [*all_items, copy], kind="linear", how=HOW, sampling=SAMPLING, store=store, steps=2
        )
    assert hidden in estimator.card["images_trained_on"]
    assert estimator.card["images_held_out"] == []


def test_too_few_groups_are_refused(demo_vlm):
    with pytest.raises(InputError, match="at least 3 images"):
        train_estimator(demo_vlm, items(2), how=HOW, sampling=SAMPLING)


def store_of(folder, ablation="mean"):
    return MeasuredStore(folder, asdict(HOW) | {"ablation": ablation})


def test_a_run_measured_otherwise_is_never_taken_for_one_of_these_settings(folder, trained, tmp_path):
    item = next(iter(items(1)))
    run = MeasuredStore(folder, asdict(HOW)).read(item)
    late = store_of(tmp_path, "gray")  # opened while the folder was empty
    first = store_of(tmp_path)
    first.write(item, run)
    with pytest.raises(InputError, match=r"\.npz holds runs measured with ablation 'mean'"):
        late.read(item)
    with pytest.raises(InputError, match="another process is writing to"):
        late.write(item, run)
    first.close()
    with pytest.raises(InputError, match="measured with ablation 'mean', and these are to be measured with 'gray'"):
        late.write(item, run)
    assert json.loads((tmp_path / "settings.json").read_text())["ablation"] == "mean"


def test_many_may_read_what_one_is_writing(folder, trained, tmp_path):
    item = next(iter(items(1)))
    run = MeasuredStore(folder, asdict(HOW)).read(item)
    writer = store_of(tmp_path)
    writer.write(item, run)
    np.testing.assert_array_equal(store_of(tmp_path).read(item).single, run.single)


def test_a_file_that_does_not_say_how_it_was_measured_is_not_believed(tmp_path):
    item = next(iter(items(1)))
    store = MeasuredStore(tmp_path, asdict(HOW))
    np.savez_compressed(store._path(item))
    with pytest.raises(InputError, match=r"is damaged.*remove it"):
        store.read(item)


def test_a_run_whose_measurements_are_no_numbers_is_named_and_the_others_go_on(demo_vlm, monkeypatch, tmp_path):
    from trajkit.attribution import measure as module

    real, bad = module.measure_effects, list(items(3))[1]

    def overflow(vlm, prompt, *rest, **options):
        effects = real(vlm, prompt, *rest, **options)
        return effects + np.inf if prompt.question == bad.question else effects

    monkeypatch.setattr(module, "measure_effects", overflow)
    told = []
    arguments = {"sampling": SAMPLING, "store": MeasuredStore(tmp_path, asdict(HOW))}
    runs = list(
        measure_runs(demo_vlm, items(3), HOW, **arguments, set_aside=lambda item, why: told.append((item, why)))
    )
    assert len(runs) == 2
    assert [item.id for item, _ in told] == [bad.id]
    assert "effects hold NaN or infinite values" in str(told[0][1])
    with pytest.raises(InputError, match=bad.id):
        list(measure_runs(demo_vlm, items(3), HOW, **arguments))


def test_an_estimator_with_a_number_that_is_none_never_replaces_a_good_one(trained, tmp_path):
    from dataclasses import replace

    good = trained[0]
    good.save(tmp_path)
    with pytest.raises(InputError, match=r"was not saved and .* must be finite float32"):
        replace(good, arrays={name: array * np.nan for name, array in good.arrays.items()}).save(tmp_path)
    assert LinearEstimator.load(tmp_path).digest == good.digest
