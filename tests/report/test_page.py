"""The page as a browser gets it: its numbers, its escaping, its independence of the network."""

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import orjson
import pytest

from thumbs.errors import RunError
from thumbs.report.page import write_report

ONE_STEP = [{"step": 1, "loss": 0.5}]
# One chart: quick to draw, where charts are not the point.
ONE_CHART: dict[str, Any] = {"steps": ONE_STEP, "heldout": None}
VOID = {"meta", "br", "hr", "img", "input", "link"}


class Page(HTMLParser):
    """Checks that every tag is closed in order; keeps the visible text, the tags and the ids."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text = ""
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(source)
        self.close()
        assert not self.open, f"never closed: {self.open}"
        self.text = " ".join(self.text.replace("\xa0", " ").split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data + " "

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def page_of(*runs: Path) -> Page:
    return Page(write_report(list(runs)).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def demo_page(demo_run: Path) -> Page:
    return Page((demo_run / "report.html").read_text(encoding="utf-8"))


def test_the_report_of_a_run_is_written_into_it(make_run: Any) -> None:
    run = make_run(**ONE_CHART)
    assert write_report(run) == run / "report.html"
    assert (run / "report.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


def test_several_runs_are_written_beside_the_first(make_run: Any) -> None:
    one, two = (make_run(name, **ONE_CHART) for name in ("one", "two"))
    assert write_report([one, two]) == one.parent.resolve() / "report.html"
    assert not (one / "report.html").exists()


def test_out_names_the_file_and_a_folder_is_refused(make_run: Any, tmp_path: Path) -> None:
    run = make_run(**ONE_CHART)
    assert write_report(run, tmp_path / "new" / "page.html").is_file()
    with pytest.raises(RunError, match=r"is a folder, must be a file; try .*report\.html"):
        write_report(run, tmp_path)


def test_the_headline_of_a_demo_says_how_much_better(demo_page: Page) -> None:
    assert "83.2 % of unseen problems solved, up from 63.1 %" in demo_page.text
    assert "+20.1 points, 95 % interval +17.0 to +23.2: better" in demo_page.text
    assert "on 2,011 rated answers (1,204 desirable, 807 undesirable)" in demo_page.text


def test_the_examples_of_a_demo_are_shown(demo_page: Page) -> None:
    for text in ("Ann has 3 apples", "The answer is 8.", "The answer is 7.", "Right answer"):
        assert text in demo_page.text


def test_the_held_out_table_shows_before_after_and_intervals(make_run: Any) -> None:
    after = {
        "n": 200,
        "num_prompts": 101,
        "num_desirable": 120,
        "num_undesirable": 80,
        "auc": 0.71249,
        "auc_ci": [0.6609, 0.7641],
        "auc_within_prompt": None,
        "auc_within_prompt_ci": None,
        "accuracy": 0.655,
        "accuracy_ci": [0.6, 0.71],
        "margin": 3.25,
        "margin_ci": [2.5, 4.0],
        "saturation": 0.045,
        "missing": {"auc_within_prompt": "no prompt has both"},
        "baselines": {
            "completion_tokens": {
                "auc": 0.41,
                "auc_ci": [0.33, 0.49],
                "gain": 0.12249,
                "gain_ci": [0.031, 0.212],
            }
        },
        "roc": {},
    }
    before = {**after, "auc": 0.5, "auc_ci": [0.5, 0.5], "saturation": 0.0}
    text = page_of(make_run(steps=ONE_STEP, heldout={"before": before, "after": after})).text
    assert (
        "chance that a desirable answer outranks an undesirable one 0.500 0.712 (0.661 to 0.764)"
        in text
    )
    assert "— (no prompt has both)" in text
    assert "3.250 (2.500 to 4.000)" in text
    assert "0.0 % 4.5 %" in text
    assert "200 held-out answers to 101 prompts (120 desirable, 80 undesirable)" in text
    assert "The length of the answer 0.410 (0.330 to 0.490) 0.122 (0.031 to 0.212)" in text
    # Upside down, length has AUC 0.59; the gain's interval is above 0.
    assert "The trained reward beats the length of the answer alone (59.0 %)." in text


def test_drops_cuts_and_weights_are_listed_by_reason(make_run: Any) -> None:
    text = page_of(make_run(**ONE_CHART)).text
    assert "Dropped: empty completion 17" in text
    assert "Cut: oldest turns 5" in text
    assert "too long" not in text  # it did not happen
    assert "Why these weights 1204 : 807 is within 1 to 1.5" in text
    assert "Dropped nothing" in page_of(make_run("clean", data={"drops": {}}, **ONE_CHART)).text


def test_speed_is_rows_and_tokens_over_the_time_of_the_steps(demo_page: Page) -> None:
    text = demo_page.text
    # 60 steps of 19 + 13 rows and 4,000 tokens in half a second each.
    assert "Rows per second 64.0" in text
    assert "Tokens per second 8,000" in text
    assert "Padding 12.5 %" in text
    assert "Training steps took 30.0 s" in text
    assert "Whole job took 3 min 12 s" in text


def test_how_to_reproduce_and_the_configuration_are_there(make_run: Any) -> None:
    text = page_of(make_run(**ONE_CHART)).text
    assert "thumbs train feedback.jsonl --model tiny-llama --out run" in text
    assert "ab12" * 16 in text
    assert "cd34" * 16 in text
    assert "batch_size: 32" in text
    assert "torch 2.13.0" in text


def test_all_curves_are_drawn_with_alternative_text(demo_page: Page) -> None:
    drawn = [svg for svg in demo_page.named("svg") if svg.get("role") == "img"]
    assert len(drawn) == 12
    assert all(svg["aria-label"] for svg in drawn)
    alt = " ".join(str(svg["aria-label"]) for svg in drawn)
    for name in ("Loss per step", "z0 in use", "raw estimate", "desirable", "Held-out ROC curve"):
        assert name in alt
    assert "Histogram of the implied reward of held-out rows by label: 100 desirable" in alt
    assert "Over it the value function and its slope." in alt
    assert "Calibration of the implied reward on held-out rows" in alt


def test_the_labels_that_look_wrong_are_shown_once_an_audit_has_found_them(
    make_run: Any, audited: Any
) -> None:
    run = make_run(**ONE_CHART)
    assert "Which labels look wrong?" not in page_of(run).text
    (run / "audit.json").write_bytes(orjson.dumps(audited()))
    text = page_of(run).text
    assert "1 of 2,011 training rows, 0 of 200 held-out rows have the reward of the other" in text
    assert "thumbs up -0.512 0.91 training 2+2? 5 5 5" in text
    assert "5 5 ..." in text
    (run / "audit.json").write_bytes(orjson.dumps(audited(reward="low")))
    with pytest.raises(RunError, match=r"audit\.json: top\.0\.reward is 'low'"):
        write_report(run)


def test_what_the_import_dropped_is_told(make_run: Any) -> None:
    imported = {"source": "openwebui", "dropped": {"repeated record": 212}, "changed": {}}
    text = page_of(make_run(data={"import": imported}, **ONE_CHART)).text
    assert "Imported from openwebui" in text
    assert "Dropped by the import: repeated record 212" in text
    assert "Changed by the import nothing" in text


def test_the_value_function_is_drawn_where_it_is_the_losss_own(make_run: Any) -> None:
    page = page_of(make_run(steps=ONE_STEP, config={"loss": {"name": "dpo"}}))
    alt = " ".join(str(svg.get("aria-label")) for svg in page.named("svg"))
    assert "Histogram of the implied reward" in alt
    assert "value function" not in alt
    assert "slope of the value" not in page.text


def test_every_table_has_a_caption_and_headers_with_a_scope(demo_page: Page) -> None:
    tables = demo_page.named("table")
    assert len(tables) == len(demo_page.named("caption")) == 5
    assert all(header["scope"] in {"col", "row"} for header in demo_page.named("th"))


def test_ids_are_unique_and_every_reference_finds_its_id(make_run: Any) -> None:
    source = write_report([make_run("one"), make_run("two")]).read_text(encoding="utf-8")
    ids = re.findall(r'\bid="([^"]+)"', source)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:url\(|href=")#([^")]+)', source)) <= set(ids)


def test_the_page_reaches_for_nothing_outside_itself(demo_run: Path, demo_page: Page) -> None:
    page, source = demo_page, (demo_run / "report.html").read_text(encoding="utf-8")
    assert "http:" not in source
    assert "https:" not in source
    assert "url(" not in re.sub(r"url\(#", "", source)
    assert "@import" not in source
    assert not {"script", "link", "iframe", "img", "object", "embed"} & {
        tag for tag, _ in page.tags
    }
    outside = [a[k] for _, a in page.tags for k in ("src", "href", "xlink:href") if k in a]
    assert all(str(target).startswith("#") for target in outside)


EVIL = "<script>alert(1)</script><img src=x onerror='alert(2)'>\"&amp;"


def test_whatever_the_data_holds_is_text_on_the_page(make_run: Any, demo: dict[str, Any]) -> None:
    run = make_run(
        "run<b>",
        steps=ONE_STEP,
        demo={
            **demo,
            "examples": [{"prompt": EVIL, "before": EVIL, "after": EVIL, "answer": EVIL}],
        },
        config={"model": {"name_or_path": EVIL}, EVIL: {"x": EVIL}},
        data={
            "warnings": [EVIL],
            "drops": {EVIL: 3},
            "feedback": {"path": EVIL, "sha256": EVIL, "records": 1},
            "weights": {"desirable_weight": 1, "undesirable_weight": 1, "reason": EVIL},
        },
        command=EVIL,
        versions={EVIL: EVIL},
    )
    plain = make_run("plain", steps=ONE_STEP)
    clean = {tag for tag, _ in page_of(plain).tags}
    for page in (page_of(run), page_of(run, plain)):
        assert {tag for tag, _ in page.tags} - clean <= {"ul", "li", "h4"}
        assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
        assert EVIL in page.text
    source = (run / "report.html").read_text(encoding="utf-8")
    assert "<script" not in source
    assert "onerror=&#39;alert(2)&#39;" in source


def test_signs_that_turn_text_round_are_written_out(make_run: Any, demo: dict[str, Any]) -> None:
    example = dict.fromkeys(("prompt", "before", "after", "answer"), "a\u202eb\x1b\tc")
    page = page_of(make_run(demo={**demo, "examples": [example]}))
    assert "a\\u202eb\\x1b c" in page.text.replace("\t", " ")
    assert "\u202e" not in page.text


def test_the_same_run_gives_the_same_bytes(demo_run: Path, tmp_path: Path) -> None:
    again = write_report(demo_run, tmp_path / "again.html")
    assert again.read_bytes() == (demo_run / "report.html").read_bytes()


def test_a_run_in_progress_shows_what_is_there_and_says_so(make_run: Any) -> None:
    page = page_of(make_run(finished=False))
    assert "In progress: 60 steps so far" in page.text
    assert "This run has not finished" in page.text
    assert "Final" not in page.text
    assert len([svg for svg in page.named("svg") if svg.get("role") == "img"]) == 9  # no ROC


def test_a_run_that_only_just_began_still_renders(make_run: Any) -> None:
    run = make_run(finished=False)
    (run / "data.json").unlink()
    (run / "metrics.jsonl").unlink()
    page = page_of(run)
    assert "In progress: 0 steps so far" in page.text
    assert "batch_size: 32" in page.text


def test_a_last_line_cut_in_the_middle_is_left_out(make_run: Any) -> None:
    run = make_run(finished=False, steps=ONE_STEP)
    with (run / "metrics.jsonl").open("ab") as file:
        file.write(b'{"step": 2, "lo')
    assert "In progress: 1 step so far" in page_of(run).text


def test_nulls_in_the_metrics_leave_gaps_not_errors(make_run: Any, training_steps: Any) -> None:
    steps = training_steps(5)
    for line in steps:
        line |= {"z0": None, "z0_raw": None, "reward_undesirable": None, "padding": None}
    page = page_of(make_run(steps=steps, heldout=None))
    alt = " ".join(str(svg.get("aria-label")) for svg in page.named("svg"))
    assert "Implied reward by label per step. desirable:" in alt
    assert "undesirable:" not in alt
    assert "Reference point z0" not in page.text
    assert "Is z0 = 0 normal?" not in page.text
    assert "Trained, but not measured" in page.text


def test_several_runs_share_the_charts_and_list_what_differs(make_run: Any) -> None:
    page = page_of(
        make_run("warm", config={"train": {"learning_rate": 5e-6, "batch_size": 32}}),
        make_run("hot", config={"train": {"learning_rate": 1e-3, "batch_size": 32}}),
    )
    assert "2 runs side by side" in page.text
    assert (
        "Configuration keys that differ Key warm hot train.learning_rate 5e-06 0.001" in page.text
    )
    assert "train.batch_size" not in page.text
    drawn = [svg for svg in page.named("svg") if svg.get("role") == "img"]
    assert len(drawn) == 10 + 2 * 2  # one set of curves, not one per run; rewards run by run
    assert "warm: 0." in str(drawn[1]["aria-label"])
    assert "hot: 0." in str(drawn[1]["aria-label"])
    assert "Run warm" in page.text
    assert "Run hot" in page.text


def test_runs_of_one_name_are_told_apart(make_run: Any) -> None:
    text = page_of(make_run("a/run", **ONE_CHART), make_run("b/run", **ONE_CHART)).text
    assert "a/run" in text
    assert "b/run" in text


@pytest.mark.parametrize("kind", ["missing", "empty"])
def test_what_is_no_run_is_named_with_what_to_do(tmp_path: Path, kind: str) -> None:
    path = tmp_path / kind
    if kind == "empty":
        path.mkdir()
    with pytest.raises(
        RunError, match=r"(no config\.yaml|no such folder).*Give a folder"
    ) as caught:
        write_report(path)
    assert str(path) in str(caught.value)


def test_no_run_at_all_is_an_error() -> None:
    with pytest.raises(RunError, match="no run was named"):
        write_report([])


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("metrics.jsonl", b"oops\n{}\n", r"metrics\.jsonl:1: not JSON"),
        ("summary.json", b"{", r"summary\.json: is not JSON"),
        ("summary.json", b"[]", r"summary\.json: holds list, must be an object"),
        ("config.yaml", b"a: [", r"config\.yaml: is not readable YAML"),
    ],
)
def test_a_damaged_file_is_named(make_run: Any, name: str, content: bytes, complaint: str) -> None:
    run = make_run()
    (run / name).write_bytes(content)
    with pytest.raises(RunError, match=complaint):
        write_report(run)


def test_a_step_written_again_after_a_resume_counts_once(make_run: Any) -> None:
    run = make_run(finished=False, steps=[{"step": i, "loss": 0.5} for i in (1, 2, 3, 2, 3, 4)])
    assert "In progress: 4 steps so far" in page_of(run).text


def test_a_long_run_stays_a_small_page(make_run: Any, training_steps: Any) -> None:
    run = make_run(steps=training_steps(4_000), heldout=None)
    assert write_report(run).stat().st_size < 500_000
    assert orjson.loads((run / "summary.json").read_bytes())["steps"] == 60
