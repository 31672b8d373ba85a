"""The action table: legal walks, illegal ones raise."""

from __future__ import annotations

import pytest

from remote_exec.errors import IllegalTransition
from remote_exec.host.lifecycle import TABLE, ActionState, Step, advance


def walk(*steps: Step) -> ActionState:
    state = ActionState.NEW
    for step in steps:
        state = advance(state, step)
    return state


def test_the_usual_life() -> None:
    once = (Step.CREATE, Step.SETUP, Step.EXECUTE)
    assert walk(*once) is ActionState.RUNNING
    assert walk(*once, Step.FINISH, Step.EXECUTE, Step.CANCEL, Step.EXECUTE) is ActionState.STOPPING
    assert walk(*once, Step.CANCEL, Step.SETTLE, Step.EXECUTE) is ActionState.RUNNING


def test_every_state_ends_and_can_be_cancelled() -> None:
    for state in ActionState:
        assert advance(state, Step.SHUTDOWN) is ActionState.GONE
        assert (state, Step.CANCEL) in TABLE


@pytest.mark.parametrize(
    ("state", "step"), [(state, step) for state in ActionState for step in Step if (state, step) not in TABLE]
)
def test_anything_else_raises(state: ActionState, step: Step) -> None:
    with pytest.raises(IllegalTransition, match=state.value):
        advance(state, step)
