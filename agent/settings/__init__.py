"""Settings: one TOML file and environment variables `AGENT_<SECTION>__<KEY>`; the environment wins.

`sections` says what can be set, `combinations` what not together, `loading` where it comes from, `faults` what is told
of a value that is refused.
Read by the composition root and the command line only; rooms get plain values.
"""

from agent.settings.loading import load_settings
from agent.settings.sections import SHIPPED_BUNDLE, Settings

__all__ = ["SHIPPED_BUNDLE", "Settings", "load_settings"]
