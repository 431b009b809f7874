"""Exit codes 0, 1, 2, 3, 4, 5 and 130, and what stands on stderr with each."""

import json

import fake_platform
import grpc
import pytest
from fake_platform import a_run, refuse
from typer.testing import CliRunner

from tunesmith.cli import errors
from tunesmith.cli.app import app
from tunesmith.errors import BY_GRPC_CODE, InvalidArgument, PermissionDenied, TunesmithError, Unreachable, Violation
from tunesmith.local.errors import LocalError
from tunesmith.v1.task_error_pb2 import TaskError
from tunesmith.v1.task_pb2 import Task


@pytest.fixture
def run(platform):
    return lambda *arguments, **options: CliRunner().invoke(app, [str(argument) for argument in arguments], **options)


@pytest.fixture
def show_refused(monkeypatch, request):
    """Run `task show` against a service that ends the call with a status."""
    answer = {}

    def get_task(self, request, context):
        refuse(context, **answer)

    monkeypatch.setattr(fake_platform.Tasks, "GetTask", get_task)  # before the server takes its methods
    run = request.getfixturevalue("run")

    def show(code, *, reason="R", message="what happened", hint="mend it", violations=()):
        answer.update(code=code, reason=reason, message=message, hint=hint, violations=violations)
        return run("task", "show", "1")

    return show


EXPECTED = {"PERMISSION_DENIED": 4, "UNAUTHENTICATED": 4, "UNAVAILABLE": 5}


@pytest.mark.parametrize("code", [code.name for code in grpc.StatusCode if code is not grpc.StatusCode.OK])
def test_every_status_of_a_service_is_an_exit_code_with_reason_message_and_hint(show_refused, code):
    result = show_refused(code)
    assert (result.exit_code, result.stdout) == (EXPECTED.get(code, 1), "")
    assert result.stderr == "error[R]: what happened\n  hint: mend it\n"


def test_an_error_without_a_hint_is_one_line(show_refused):
    assert show_refused("ABORTED", hint="").stderr == "error[R]: what happened\n"


def test_fields_are_listed_between_message_and_hint(show_refused):
    assert show_refused("INVALID_ARGUMENT", violations=[("a", "is required"), ("b.c", "is too large")]).stderr.splitlines() == [
        "error[R]: what happened",
        "  - a: is required",
        "  - b.c: is too large",
        "  hint: mend it",
    ]


def test_several_violations_that_are_the_whole_message_are_said_once(show_refused):
    violations = [("a", "is required"), ("b.c", "is too large")]
    result = show_refused("INVALID_ARGUMENT", message="a: is required; b.c: is too large", violations=violations)
    assert result.stderr.splitlines()[:3] == ["error[R]: 2 things are wrong", "  - a: is required", "  - b.c: is too large"]


def test_a_field_that_is_the_whole_message_is_not_said_twice(show_refused):
    result = show_refused("INVALID_ARGUMENT", message="a: is required", violations=[("a", "is required")])
    assert result.stderr == "error[R]: a: is required\n  hint: mend it\n"


def test_a_long_message_is_not_broken_and_its_brackets_and_colons_stay(show_refused):
    message = "loader.py:100: [bold]x[/bold] " + "word " * 60 + "end"
    assert show_refused("INTERNAL", message=message).stderr.splitlines()[0] == f"error[R]: {message}"


@pytest.mark.parametrize("kind", sorted(set(BY_GRPC_CODE.values()), key=lambda kind: kind.__name__))
def test_what_the_sdk_refuses_itself_is_usage_only_when_an_argument_is_wrong(kind):
    expected = {InvalidArgument: errors.USAGE, Unreachable: errors.UNREACHABLE, PermissionDenied: errors.NOT_ALLOWED}
    assert errors.exit_code(kind("m")) == expected.get(kind, errors.FAILED)


@pytest.mark.parametrize(
    ("reason", "code"),
    [("NOT_RUNNING", 5), ("PORT_INVALID", 2), ("ALREADY_RUNNING", 1), ("STACK_DID_NOT_START", 1), ("SETTING_UNREADABLE", 1)],
)
def test_problems_of_the_local_stack_have_codes_by_reason(capsys, reason, code):
    error = LocalError(reason, "m", "h")
    assert errors.exit_code(error) == code
    errors.show(error, as_json=False)
    assert capsys.readouterr().err == f"error[{reason}]: m\n  hint: h\n"


def test_as_json_an_error_is_one_line_in_every_language(capsys):
    violation = Violation("f", "größer", "TOO_LARGE")
    errors.show(TunesmithError("漢字", reason="R", error_class="user", violations=(violation,)), as_json=True)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.splitlines()) == 1
    assert "漢字" in captured.err
    assert json.loads(captured.err)["error"]["violations"] == [{"field": "f", "description": "größer", "reason": "TOO_LARGE"}]


@pytest.mark.parametrize(
    "command",
    [
        "nonsense",
        "task nonsense",
        "task show",
        "task show 1 2",
        "task watch 1 --after -1",
        "task watch 1 --after soon",
        "task create --data d --file f",
        "task create --data d --set",
        "task create --data d --set rank",
        "task create --data d --method magic",
        "task create --data d --tuning prefix",
        "task create --data datasets/",
        "task create --file missing.yaml",
        "task create --data missing.jsonl",
        "task create --data ./missing",
        "task logs 1 --rank first",
        "task ls --state asleep",
        "data upload missing.jsonl",
        "data show tasks/1",
        "model show artifacts/1",
        "model chat",
        "artifact download",
        "up --port kitchen=1",
    ],
)
def test_a_command_that_is_written_wrong_is_exit_code_2_and_prints_no_result(run, platform, command):
    result = run(*command.split())
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr
    assert platform.tasks.created == []


@pytest.mark.parametrize("command", ["", "task", "data", "model", "artifact"])
def test_a_command_without_a_verb_shows_its_verbs(run, command):
    result = run(*command.split())
    assert result.exit_code == 2
    assert "Commands" in result.output


@pytest.mark.parametrize(
    ("service", "command"),
    [
        ("TASK_MANAGER", "task ls"),
        ("TASK_MANAGER", "task watch 1"),
        ("TASK_MANAGER", "task create --data d"),
        ("STORAGE", "data ls"),
        ("STORAGE", "artifact ls"),
        ("STORAGE", "model ls"),
        ("INFERENCE", "model chat tiny -m hello"),
    ],
)
def test_a_service_that_is_not_there_is_exit_code_5_and_named(run, monkeypatch, service, command):
    monkeypatch.setenv(f"TUNESMITH_{service}_ADDRESS", "127.0.0.1:1")
    result = run(*command.split())
    assert result.exit_code == 5
    assert f"error[UNREACHABLE]: {service.lower()} does not answer at 127.0.0.1:1" in result.stderr
    assert "tunesmith up" in result.stderr


@pytest.mark.parametrize("verb", ["watch", "create --watch"])
@pytest.mark.parametrize(("ending", "code"), [(Task.SUCCEEDED, 0), (Task.FAILED, 3), (Task.CANCELLED, 3)])
def test_following_exits_as_the_task_ended(run, platform, monkeypatch, verb, ending, code):
    error = TaskError(reason="OUT_OF_MEMORY", message="no memory", hint="Smaller batches.") if ending == Task.FAILED else None
    events = a_run(ending=ending, error=error)
    if verb == "watch":
        result = run("task", "watch", platform.tasks.add(events=events).name)
    else:
        platform.tasks.on_create = lambda task: platform.tasks.events.update({task.name: events})
        result = run("task", "create", "--data", "d", "--watch")
    assert result.exit_code == code
    assert ("error[OUT_OF_MEMORY]: no memory\n  hint: Smaller batches." in result.stderr) == (ending == Task.FAILED)


def test_showing_a_failed_task_is_no_failure(run, platform):
    task = platform.tasks.add(Task.FAILED, error=TaskError(reason="R", message="m", hint="h"))
    assert run("task", "show", task.name).exit_code == 0


@pytest.mark.parametrize("as_json", [True, False])
def test_ctrl_c_is_exit_code_130_everywhere_and_no_traceback(run, platform, monkeypatch, as_json):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("tunesmith.client.Client.list_tasks", interrupt)
    result = run("task", "ls", *(["--json"] if as_json else []))
    assert (result.exit_code, result.stdout) == (130, "")
    assert "Traceback" not in result.stderr


def test_ctrl_c_in_a_conversation_is_exit_code_130(run, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("tunesmith.client.Client.stream_chat", interrupt)
    assert run("model", "chat", "tiny", input="hello\n").exit_code == 130


def test_ctrl_c_while_watching_as_json_tells_how_to_come_back_on_stderr(run, platform, monkeypatch):
    task = platform.tasks.add(events=a_run())
    shown = []

    def interrupt(message, *, compact):
        shown.append(message.sequence)
        if message.sequence == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr("tunesmith.cli.task_watch.print_json", interrupt)
    result = run("task", "watch", task.name, "--json")
    assert (result.exit_code, shown) == (130, [1, 2, 3])
    assert result.stderr.endswith("--after 3\n")


def test_a_cursor_ahead_of_the_task_ends_with_its_end(run, platform):
    result = run("task", "watch", platform.tasks.add(events=a_run()).name, "--after", 1000)
    assert (result.exit_code, result.stdout) == (0, "")
