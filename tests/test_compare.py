"""`thumbs compare` and `thumbs judge-check` from files to numbers."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from tests.comparing import prefers_good, request, write, written
from tests.evaluate.scripted_server import Act, says, scripted_server
from typer.testing import CliRunner

from thumbs import pipeline
from thumbs.cli import app
from thumbs.compare import CompareRequest, JudgeRequest
from thumbs.config import load_config
from thumbs.errors import ConfigError, FeedbackError, OutputError
from thumbs.evaluate.answers import Sampling
from thumbs.models.tiny import save_tiny


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    return written(tmp_path)


def test_both_orders_are_asked_and_a_judge_that_knows_is_consistent(
    files: dict[str, Path], tmp_path: Path
) -> None:
    with scripted_server(lambda body, _: prefers_good(body)) as server:
        result = pipeline.compare(request(files, server.url, tmp_path / "out", prices=(1.0, 10.0)))
    assert (result["wins"], result["losses"], result["n"]) == (12, 0, 12)
    assert (result["win_rate"], result["ci_high"], result["method"]) == (1, 1, "clopper-pearson")
    assert result["ci_low"] == pytest.approx(0.025 ** (1 / 12))
    assert (result["consistency"], result["first_position_rate"]) == (1, 0.5)
    assert result["distinguishable"]
    # 24 judgements of 10 + 2 tokens at 1 and 10 a million.
    assert result["judge_tokens"] == {"prompt": 240, "completion": 48}
    assert result["cost"] == pytest.approx((240 + 480) / 1e6)
    assert len(set(server.asked)) == 24
    lines = (tmp_path / "out" / "comparisons.jsonl").read_text(encoding="utf-8").splitlines()
    first = json.loads(lines[0])
    assert (first["a"], first["a_first"]["verdict"], first["outcome"]) == (
        "good What is 0 + 0?",
        "first",
        1.0,
    )


def test_a_judge_that_takes_the_first_gives_ties_and_is_found_out(
    files: dict[str, Path], tmp_path: Path
) -> None:
    with scripted_server(lambda *_: says("[[A]]")) as server:
        result = pipeline.compare(request(files, server.url, tmp_path / "out"))
    assert (result["wins"], result["ties"], result["win_rate"]) == (0, 12, 0.5)
    assert (result["consistency"], result["first_position_rate"]) == (0, 1)
    assert not result["distinguishable"]


def test_a_reply_without_a_verdict_is_counted_kept_and_not_paid_again(
    files: dict[str, Path], tmp_path: Path
) -> None:
    def unsure(body: dict[str, Any], _: int) -> Act:
        return says("[[A]] or [[B]]") if "What is 3 " in str(body) else prefers_good(body)

    with scripted_server(unsure) as server:
        for _ in range(2):
            result = pipeline.compare(request(files, server.url, tmp_path / "out"))
            assert (result["n"], result["nulls"]) == (11, 1)
            assert result["null_reasons"] == {"no verdict in the reply": 1}
        assert len(server.paid) == 24


def test_the_key_is_sent_and_lands_nowhere(
    files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    key = "sk-thumbs-0123456789"
    monkeypatch.setenv("THUMBS_JUDGE_API_KEY", key)

    def echoes(_: dict[str, Any], number: int) -> Act:
        # A careless server tells the key in replies and in errors.
        return says(f"your key is {key} [[A]]") if number < 9 else Act(401, f"bad key {key}")

    with scripted_server(echoes) as server, pytest.raises(ConfigError) as caught:
        pipeline.compare(request(files, server.url, tmp_path / "out"))
    assert set(server.authorizations) == {f"Bearer {key}"}
    assert "bad key [key]" in str(caught.value)
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert (tmp_path / "out" / "judgements.jsonl") in written
    assert not any(key.encode() in path.read_bytes() for path in written)
    printed = capfd.readouterr()
    assert key not in printed.out + printed.err


def answers_well(body: dict[str, Any], _: int) -> Act:
    return says(f"good {body['messages'][-1]['content']} {body.get('seed')}")


def test_answers_of_a_server_are_kept_too(files: dict[str, Path], tmp_path: Path) -> None:
    with scripted_server(answers_well) as server:
        asked = CompareRequest(
            server.url,
            "target",
            files["prompts"],
            JudgeRequest("tests.evaluate.rules:starts_with_good"),
            a_model="served",
            sampling=Sampling(temperature=0.7, top_p=0.9, max_new_tokens=7, seed=5, samples=2),
            out=tmp_path / "out",
        )
        result = pipeline.compare(asked)
        assert pipeline.compare(asked) == result
    assert len(server.asked) == 24
    body = {key: server.bodies[0][key] for key in ("model", "temperature", "top_p", "max_tokens")}
    assert body == {"model": "served", "temperature": 0.7, "top_p": 0.9, "max_tokens": 7}
    assert {sent["seed"] for sent in server.bodies} == {5, 6}
    assert (result["wins"], result["num_prompts"], result["n"]) == (24, 12, 24)
    assert result["b"] == "target"


def test_a_model_folder_against_itself_is_all_identical_ties(
    files: dict[str, Path], tmp_path: Path
) -> None:
    model = str(save_tiny(tmp_path / "model", "llama"))
    asked = CompareRequest(
        model,
        model,
        files["prompts"],
        JudgeRequest("tests.evaluate.rules:fails"),  # is never asked
        sampling=Sampling(max_new_tokens=4),
        chat=True,
        out=tmp_path / "out",
    )
    result = pipeline.compare(asked)
    assert (result["identical"], result["ties"], result["win_rate"]) == (12, 12, 0.5)
    assert result["consistency"] is None
    kept = (tmp_path / "out" / "answers.jsonl").read_text(encoding="utf-8")
    assert len(kept.splitlines()) == 12
    pipeline.compare(asked)
    assert (tmp_path / "out" / "answers.jsonl").read_text(encoding="utf-8") == kept


@pytest.mark.parametrize(
    ("changes", "judge", "error", "words"),
    [
        ({}, "nonsense", ConfigError, "is no judge"),
        ({}, "no.such.module:rule", ConfigError, "cannot be imported"),
        ({}, "json:no_such", ConfigError, "has no function"),
        ({}, ".relative:rule", ConfigError, "not of the form package.module:function"),
        ({}, ":", ConfigError, "not of the form package.module:function"),
        ({}, "http://user:secret@host/v1", ConfigError, "http://host/v1: was given with a pass"),
        ({}, "http://host/v1?key=secret", ConfigError, "was given with a password, a query"),
        ({"model": None}, "http://127.0.0.1:1/v1", ConfigError, "--judge-model: is missing"),
        ({}, "tests.evaluate.rules:says_nonsense", ConfigError, "returned 'left'"),
    ],
)
def test_a_judge_that_cannot_be_is_refused_with_what_to_do(
    files: dict[str, Path],
    tmp_path: Path,
    changes: dict[str, Any],
    judge: str,
    error: type[Exception],
    words: str,
) -> None:
    with pytest.raises(error, match=words) as caught:
        pipeline.compare(request(files, judge, tmp_path / "out", **changes))
    assert "secret" not in str(caught.value)
    assert not (tmp_path / "out" / "comparison.json").exists()


def test_missing_answers_targets_and_foreign_folders_are_refused(
    files: dict[str, Path], tmp_path: Path
) -> None:
    rule = "tests.evaluate.rules:starts_with_good"
    write(files["bad"], [{"prompt": "What is 0 + 0?", "completion": "bad"}])
    with pytest.raises(FeedbackError, match=r"0 of 1 answers to the prompt 'What is 1 \+ 1\?'"):
        pipeline.compare(request(files, rule, None))
    gone = CompareRequest("gone.jsonl", "target", files["prompts"], JudgeRequest(rule))
    with pytest.raises(FeedbackError, match=r"gone\.jsonl: there is no such file"):
        pipeline.compare(gone)
    write(files["prompts"], [{"prompt": "What is 0 + 0?"}])
    asked = CompareRequest("target", str(files["bad"]), files["prompts"], JudgeRequest(rule))
    with pytest.raises(FeedbackError, match='has no "target"'):
        pipeline.compare(asked)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(OutputError, match="holds no comparison"):
        pipeline.compare(request(files, rule, tmp_path / "full"))


def test_the_verbs_print_numbers_and_one_json_object(
    files: dict[str, Path], tmp_path: Path
) -> None:
    sides = [str(files["good"]), str(files["bad"]), "--prompts", str(files["prompts"])]
    rule = ["--judge", "tests.evaluate.rules:starts_with_good"]
    shown = CliRunner().invoke(app, ["compare", *sides, *rule])
    assert shown.exit_code == 0, shown.exception
    assert "A wins 100.0% (95 % interval 73.5% to 100.0%, n 12)" in shown.stdout
    result = json.loads(CliRunner().invoke(app, ["compare", *sides, *rule, "--json"]).stdout)
    assert {"win_rate", "ci_low", "ci_high", "n", "ties", "consistency"} <= result.keys()
    pairs = tmp_path / "pairs.jsonl"
    first = {"prompt": "p", "first": "good", "second": "bad", "better": "first"}
    write(pairs, [first, {**first, "prompt": "q", "better": "second"}])
    checked = CliRunner().invoke(app, ["judge-check", str(pairs), *rule, "--json"])
    assert checked.exit_code == 0, checked.exception
    found = json.loads(checked.stdout)
    assert (found["accuracy"], found["n"]) == (0.5, 2)
    assert {"ci_low", "ci_high"} <= found.keys()
    told = CliRunner().invoke(app, ["judge-check", str(pairs), *rule])
    assert "agrees with people on 50.0% of 2 pairs" in told.stdout
    assert "follow the position" not in told.stdout
    write(pairs, [{**first, "prompt": name} for name in "pqr"])
    swayed = ["--judge", "tests.evaluate.rules:takes_the_second"]
    for verb in (["compare", *sides], ["judge-check", str(pairs)]):
        told = CliRunner().invoke(app, [*verb, *swayed])
        assert "follow the position: the answer shown second wins. Take" in told.stdout


def test_a_server_that_judges_its_own_answers_is_told(
    files: dict[str, Path], capfd: pytest.CaptureFixture[str]
) -> None:
    with scripted_server(answers_well) as server:
        for name, is_told in (("tiny", True), ("another", False)):
            judge = JudgeRequest(server.url, model="tiny")
            asked = CompareRequest("target", server.url, files["prompts"], judge, b_model=name)
            assert pipeline.compare(asked)["nulls"] == 12
            told = capfd.readouterr().err
            assert ("is B itself, and prefers" in told) == is_told
            assert "is A itself" not in told


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["--judge-option", "messages=[]"], "messages=.*: cannot be chosen; write them with --tem"),
        (["--judge-option", " model =x"], "cannot be chosen; name it with --judge-model"),
        (["--judge-option", "stream=true"], "stream=true: cannot be chosen; replies are read who"),
        (["--judge-option", "n=2"], "n=2: cannot be chosen; one reply is read"),
        (["--judge-option", "foo"], "not of the form key=value"),
        (["--prices", "-1,2"], "--prices -1,2: must be two numbers of 0 or more"),
        (["--prices", "nan,2"], "must be two numbers of 0 or more"),
        (["--prices", "1,inf"], "must be two numbers of 0 or more"),
        (["--prices", "1"], "must be two numbers of 0 or more"),
    ],
)
@pytest.mark.parametrize("verb", ["compare", "judge-check"])
def test_an_option_that_cannot_be_is_refused_before_any_file_is_read(
    given: list[str], words: str, verb: str
) -> None:
    named = {"compare": ["a", "b", "--prompts", "none"], "judge-check": ["none"]}[verb]
    judge = ["--judge", "http://127.0.0.1:9/v1"]
    done = CliRunner().invoke(app, [verb, *named, *judge, *given])
    assert isinstance(done.exception, ConfigError)
    assert re.search(words, str(done.exception))


def test_a_run_with_an_adapter_answers_and_judges(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model = str(save_tiny(tmp_path / "model", "llama"))
    votes = [
        {
            "prompt": [{"role": "user", "content": f"Is {i // 2} a number?"}],
            "completion": [{"role": "assistant", "content": "yes it is" if i % 2 else "no way"}],
            "label": bool(i % 2),
        }
        for i in range(32)
    ]
    write(tmp_path / "votes.jsonl", votes)
    settings = ["train.batch_size=8", "train.learning_rate=1e-2", "train.epochs=2"]
    config = load_config(None, [*settings, "model.lora={}"], model=model)
    pipeline.train_model(tmp_path / "votes.jsonl", config, tmp_path / "run", page=False)
    liked, disliked = (
        [vote for vote in votes if vote["label"] == label][:12] for label in (True, False)
    )
    write(tmp_path / "liked.jsonl", liked)
    write(tmp_path / "disliked.jsonl", disliked)
    run = str(tmp_path / "run")
    judge = JudgeRequest(f"run:{run}")
    prompts = tmp_path / "votes.jsonl"
    sides = str(tmp_path / "liked.jsonl"), str(tmp_path / "disliked.jsonl")
    # The reward was trained on these thumbs; their order is nothing to it.
    result = pipeline.compare(CompareRequest(*sides, prompts, judge, limit=12))
    assert "itself" not in capfd.readouterr().err
    assert result["win_rate"] > 0.9
    assert result["consistency"] is None
    sampling = Sampling(max_new_tokens=6, samples=2, temperature=1.0)
    named = {"prompts": prompts, "judge": judge, "sampling": sampling, "limit": 6}
    of_run = pipeline.compare(CompareRequest(run, model, **named))  # type: ignore[arg-type]
    assert f"--judge run:{run}: is A itself, and prefers" in capfd.readouterr().err
    assert of_run["n"] + of_run["nulls"] == 12
    adapter = str(tmp_path / "run" / "model")
    same = pipeline.compare(CompareRequest(model, adapter, **named))  # type: ignore[arg-type]
    assert f"--judge run:{run}: is B itself, and prefers" in capfd.readouterr().err
    same = pipeline.compare(CompareRequest(run, adapter, **named))  # type: ignore[arg-type]
    assert same["identical"] == 12
    with pytest.raises(ConfigError, match="is no run; a reward needs"):
        pipeline.compare(CompareRequest(*sides, prompts, JudgeRequest(f"run:{model}"), limit=9))
