"""The test vectors of session semantics, section 7: vendor documents, recorded responses and real invoices.

Totals are compared as text, cart / additional / total: the digits are the promise.
"""

from __future__ import annotations

from typing import Any, Final

from tests.session.play import OMIT, Number, Play, cost, item


def test_t1_two_items_and_shipping_add_up_and_the_session_is_the_first() -> None:
    created = Play().send({"cart_items": [item("13"), item("12")], "additional_costs": {"ShippingCost": cost("5")}})
    assert created.totals == "25 / 5 / 30"
    assert created.entity["first_session"] is True
    assert [one["position"] for one in created.entity["cart_items"]] == [Number("0"), Number("1")]


def test_t2_an_anonymous_session_is_a_first_session() -> None:
    created = Play().send({"profile_id": "", "cart_items": [item("99.99")]})
    assert created.totals == "99.99 / 0 / 99.99"
    assert created.entity["first_session"] is True


def test_t3_an_additional_cost_counts_beside_the_cart() -> None:
    created = Play().send({"cart_items": [item("99.99")], "additional_costs": {"shipping": cost("20")}})
    assert created.totals == "99.99 / 20 / 119.99"


def test_t4_prices_are_multiplied_by_quantities() -> None:
    created = Play().send({"cart_items": [item("3.7", 2), item("6.5"), item("2.2", 2)]})
    assert created.totals == "18.3 / 0 / 18.3"


def test_t5_costs_alone_make_a_total() -> None:
    costs = {"fees": cost("3.5"), "shipping": cost("5")}
    created = Play().send({"cart_items": [], "additional_costs": costs})
    assert created.totals == "0 / 8.5 / 8.5"


def test_t6_cents_add_up() -> None:
    created = Play().send({"cart_items": [item("79.99"), item("15.99", 2)]})
    assert created.totals == "111.97 / 0 / 111.97"


def test_t7_no_binary_fraction_shows() -> None:
    assert 6 * 1.85 + 6 * 1.85 != 22.2, "the vector's point: doubles get it wrong"
    created = Play().send({"cart_items": [item("1.85", 6), item("1.85", 6)]})
    assert created.totals == "22.2 / 0 / 22.2"


INVOICE_536370: Final = [
    *[("22728", 24, "3.75"), ("22727", 24, "3.75"), ("22726", 12, "3.75"), ("21724", 12, "0.85")],
    *[("21883", 24, "0.65"), ("10002", 48, "0.85"), ("21791", 24, "1.25"), ("21035", 18, "2.95")],
    *[("22326", 24, "2.95"), ("22629", 24, "1.95"), ("22659", 24, "1.95"), ("22631", 24, "1.95")],
    *[("22661", 20, "0.85"), ("21731", 24, "1.65"), ("22900", 24, "2.95"), ("21913", 12, "3.75")],
    *[("22540", 24, "0.42"), ("22544", 24, "0.42"), ("22492", 36, "0.65")],
]
"""Lines of a real invoice (UCI Online Retail, CC BY 4.0) but for its postage: SKU, quantity, price."""


def test_t8_a_real_invoice_adds_up_with_its_postage_as_a_cost() -> None:
    lines = [item(price, quantity, sku=sku) for sku, quantity, price in INVOICE_536370]
    created = Play().send({"cart_items": lines, "additional_costs": {"POST": cost("54.00")}})
    assert created.totals == "801.86 / 54 / 855.86"


def test_t9_ten_dimes_are_one() -> None:
    assert sum([0.1] * 10) != 1, "the vector's point: doubles get it wrong"
    created = Play().send({"cart_items": [item("0.1")] * 10})
    assert created.totals == "1 / 0 / 1"


def test_t10_a_session_that_starts_closed_is_refused_and_may_start_open_after() -> None:
    play = Play()
    assert play.send({"state": "closed"}).verdict == "must_start_open"
    assert not play.rows
    opened = play.send({"state": "open"})
    assert opened.verdict == "session_created"
    assert opened.record["revision"] == Number("1")


def test_t11_a_closed_session_is_not_opened_again_and_says_so_in_the_vendors_words() -> None:
    play = Play()
    assert play.send({"state": "open"}).verdict == "session_created"
    assert play.send({"state": "closed"}).verdict == "session_closed"
    refused = play.send({"state": "open", "cart_items": [item("1")]})
    assert refused.verdict == "invalid_transition"
    assert refused.reason["message"] == 'Cannot move session to state "open" from state "closed"'


def test_t12_closing_three_times_closes_once() -> None:
    play = Play()
    sent = [play.send({"state": state}).verdict for state in ("open", "closed", "closed", "closed")]
    assert sent == ["session_created", "session_closed", "unchanged", "unchanged"]
    assert play.session().revision == 2


def test_t13_coupons_stay_when_omitted_or_null_and_go_when_empty() -> None:
    play = Play()
    assert play.send({"coupon_codes": ["A"]}).entity["coupon_codes"] == ["A"]
    # Each update changes another field, so that each shows the whole session.
    assert play.send({"referral_code": "1"}).entity["coupon_codes"] == ["A"]
    assert play.send({"coupon_codes": None, "referral_code": "2"}).entity["coupon_codes"] == ["A"]
    assert play.send({"coupon_codes": []}).entity["coupon_codes"] == []


def test_t14_attributes_are_merged_and_null_removes_one() -> None:
    play, one = Play(), Number("1")
    assert play.send({"attributes": {"a": one}}).entity["attributes"] == {"a": one}
    assert play.send({"attributes": {"b": Number("2")}}).entity["attributes"] == {"a": one, "b": Number("2")}
    assert play.send({"attributes": {"a": None}}).entity["attributes"] == {"b": Number("2")}


def first_session(play: Play, session: str, profile_id: Any = OMIT) -> bool:
    """Binds the session and says whether it is the profile's first."""
    entity = play.send({"profile_id": profile_id}, integration_id=session).entity
    assert isinstance(entity["first_session"], bool)
    return entity["first_session"]


def test_t15_a_guest_who_turns_out_to_be_known_is_no_first_session_any_more() -> None:
    play = Play()
    sent = [first_session(play, "S1"), first_session(play, "S2", "P"), first_session(play, "S1", "P")]
    assert sent == [True, True, False]


def test_t16_a_profile_belongs_to_the_session_that_bound_it_first_not_to_the_one_that_began_with_it() -> None:
    play = Play()
    binding = [("S1", "guest_1"), ("S1", "user_42"), ("S2", "user_42")]
    assert [first_session(play, session, profile) for session, profile in binding] == [True, True, False]


def test_t17_a_cancelled_session_cannot_be_closed() -> None:
    play = Play()
    sent = [play.send({"state": state}).verdict for state in ("open", "cancelled", "closed")]
    assert sent == ["session_created", "session_cancelled", "invalid_transition"]


def test_t18_closing_with_an_invalid_item_leaves_the_session_open_and_whole() -> None:
    play = Play()
    play.send({"state": "open", "cart_items": [item("10")]})
    before = play.row()
    assert play.send({"state": "closed", "cart_items": [item("5"), item("1", 0)]}).verdict == "schema_invalid"
    assert play.row() == before
    assert play.session().state == "open"
