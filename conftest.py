from hypothesis import settings

pytest_plugins = ("parity.plugin",)
# A wall-clock deadline tells of the machine's load, not of the code.
settings.register_profile("audit", deadline=None)
settings.load_profile("audit")
