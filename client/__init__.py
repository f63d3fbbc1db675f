"""A client of the REST API: ``from autoscorer import Client``. The commands use it, too."""

from .client import Client
from .connection import ApiAway, ApiBusy
from .events import Event

__all__ = ["ApiAway", "ApiBusy", "Client", "Event"]
