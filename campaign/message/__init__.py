"""One user, one mail: templates in a sandbox, an audit of what they rendered, and the bytes that go on the wire."""

from campaign.message.composer import Composer, Scope
from campaign.message.languages import chain
from campaign.message.wire import freeze, mark_as_test, new_message_id

__all__ = ["Composer", "Scope", "chain", "freeze", "mark_as_test", "new_message_id"]
