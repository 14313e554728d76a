"""The reviewer who is never wrong: follows the list as it is shown, and says what is true."""

from typing import Any

from bench.reviewer import Reviewer
from tests.service.conftest import House


def listed(house: House, **params: Any) -> list[dict[str, Any]]:
    return list(house.client.get("/v1/top-losses", params=params).json()["items"])


def truth_of(house: House, wrong: set[str]) -> dict[str, str]:
    """By sample: green for the wrong ones, which nothing is filed under."""
    labels = {item["id"]: item["label"] for item in listed(house, state="all")}
    return {sample: "green" if sample in wrong else label for sample, label in labels.items()}


def test_goes_down_the_list_to_its_end_and_puts_right_what_is_wrong(house: House) -> None:
    shown = [item["id"] for item in listed(house)]
    truth = truth_of(house, {shown[0], shown[5]})

    answered = list(Reviewer(client=house.client, truth=truth).down_the_list())

    assert answered == shown
    assert listed(house) == []
    trail = house.client.get("/v1/decisions").json()["items"]
    assert [event["action"] for event in reversed(trail)] == [
        "relabel" if place in (0, 5) else "confirm" for place in range(len(shown))
    ]
    assert {item["id"]: item["label"] for item in listed(house, state="decided")} == truth


def test_a_sample_is_decided_once_it_is_named(house: House) -> None:
    answers = Reviewer(client=house.client, truth=truth_of(house, set())).down_the_list()

    first, second = next(answers), next(answers)

    assert {item["id"] for item in listed(house, state="decided")} == {first, second}


def test_follows_an_order_of_its_own(house: House) -> None:
    order = [item["id"] for item in listed(house)][5:1:-1]
    truth = truth_of(house, {order[1]})

    assert list(Reviewer(client=house.client, truth=truth).through(order)) == order

    decided = {item["id"]: item["label"] for item in listed(house, state="decided")}
    assert decided == {sample: truth[sample] for sample in order}
