"""Everything that can happen to the price book and to licence alerts."""

from apps.pricing.services.alerts import check_licence_use, set_licence_alert
from apps.pricing.services.prices import PriceInput, add_price, change_price, remove_price

__all__ = [
    "PriceInput",
    "add_price",
    "change_price",
    "check_licence_use",
    "remove_price",
    "set_licence_alert",
]
