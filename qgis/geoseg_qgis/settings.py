"""Where geoseg is, as the user set it: a setting of Processing, which qgis_process reads too."""

from __future__ import annotations

from processing.core.ProcessingConfig import ProcessingConfig, Setting

from geoseg_qgis.command import program
from geoseg_qgis.translation import tr

_NAME = "GEOSEG_EXECUTABLE"


def add_settings(group: str, icon: object) -> None:
    """Add the setting to those of Processing."""
    ProcessingConfig.settingIcons[group] = icon
    ProcessingConfig.addSetting(
        Setting(
            group, _NAME, tr("Program geoseg, or the folder of its environment (empty: look for it)"), "",
            valuetype=Setting.FILE,
        )
    )  # fmt: skip
    ProcessingConfig.readSettings()


def remove_settings() -> None:
    """Remove the setting."""
    ProcessingConfig.removeSetting(_NAME)


def configured() -> str:
    """Return what the user set; empty where geoseg is looked for."""
    return str(ProcessingConfig.getSetting(_NAME) or "")


def configure(value: str) -> None:
    """Set it."""
    ProcessingConfig.setSettingValue(_NAME, value)


def find_program() -> str:
    """Return the program; raise ProgramError where there is none."""
    return program.find(configured())
