"""An ISV's customers: whose users are whose, who is asked first, and what the users' answers say of that (pure)."""

from campaign.customers.asking import NEVER, finding, left_alone
from campaign.customers.figures import Figures, figures
from campaign.customers.people import HEADER, Administrator, Customer, customer_id, grouped, is_customer

__all__ = [
    "HEADER",
    "NEVER",
    "Administrator",
    "Customer",
    "Figures",
    "customer_id",
    "figures",
    "finding",
    "grouped",
    "is_customer",
    "left_alone",
]
