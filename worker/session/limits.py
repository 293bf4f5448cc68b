"""Lengths and counts an update may have (session semantics, section 3). Wrong types never get here."""

from __future__ import annotations

from worker.session.model import Limits, Update
from worker.session.rejections import Path, Rejected, last_name


def check(update: Update, limits: Limits) -> Rejected | None:
    """The first limit the update is over, in the order of the fields; None when it keeps all."""
    if len(update.integration_id) > limits.integration_id_length:
        return _too_long(("integration_id",), limits.integration_id_length)
    if update.event_id is not None and len(update.event_id) > limits.event_id_length:
        return _too_long(("event_id",), limits.event_id_length)
    if update.profile_id is not None and len(update.profile_id) > limits.integration_id_length:
        return _too_long(("customer_session", "profile_id"), limits.integration_id_length)
    if update.coupon_codes:
        for index, code in enumerate(update.coupon_codes):
            if len(code) > limits.coupon_code_length:
                return _too_long(("customer_session", "coupon_codes", index), limits.coupon_code_length)
    if update.referral_code is not None and len(update.referral_code) > limits.referral_code_length:
        return _too_long(("customer_session", "referral_code"), limits.referral_code_length)
    if update.cart is not None:
        if len(update.cart.quantities) > limits.cart_items:
            return _too_many(("customer_session", "cart_items"), len(update.cart.quantities), limits.cart_items)
        if sum(update.cart.quantities) > limits.cart_quantity:
            return _too_much(sum(update.cart.quantities), limits.cart_quantity)
    if update.identifiers is not None and len(update.identifiers) > limits.identifiers:
        return _too_many(("customer_session", "identifiers"), len(update.identifiers), limits.identifiers)
    return None


def _too_long(path: Path, limit: int) -> Rejected:
    return Rejected("limit_exceeded", f"{last_name(path)} must have at most {limit} characters", path)


def _too_many(path: Path, count: int, limit: int) -> Rejected:
    return Rejected("limit_exceeded", f"{last_name(path)} must have at most {limit} entries, not {count}", path)


def _too_much(quantity: int, limit: int) -> Rejected:
    message = f"the quantities of cart_items must add up to at most {limit}, not {quantity}"
    return Rejected("limit_exceeded", message, ("customer_session", "cart_items"))
