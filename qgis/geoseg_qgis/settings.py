"""The user's setting for the location of geoseg: a Processing setting, which qgis_process reads too."""

from __future__ import annotations

from processing.core.ProcessingConfig import ProcessingConfig, Setting

from geoseg_qgis.command import program
from geoseg_qgis.translation import tr

_NAME = "GEOSEG_EXECUTABLE"


def add_settings(group: str, icon: object) -> None:
    """Add the setting to Processing's."""
    ProcessingConfig.settingIcons[group] = icon
    ProcessingConfig.addSetting(
        Setting(
            group, _NAME, tr("Program geoseg, or the folder of its environment (empty: look for it)"), "",
            valuetype=Setting.FILE,
        )
    )  # fmt: skip
    ProcessingConfig.readSettings()


def remove_settings(group: str) -> None:
    """Remove the setting, and the icon of its group."""
    ProcessingConfig.removeSetting(_NAME)
    ProcessingConfig.settingIcons.pop(group, None)


def configured() -> str:
    """Return the user's setting; empty if geoseg is to be searched for."""
    return str(ProcessingConfig.getSetting(_NAME) or "")


def configure(value: str) -> None:
    """Store the setting."""
    ProcessingConfig.setSettingValue(_NAME, value)


def find_program() -> str:
    """Return the path of the program; raise ProgramError if there is none."""
    return program.find(configured())
