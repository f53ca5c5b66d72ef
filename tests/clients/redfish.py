#!/usr/bin/env python3
"""redfish.py ENROL-FILE: sushy, Ironic's own Redfish library, as client of a simulated BMC. Exit code 0: all that Ironic's
redfish interfaces ask for is answered as sushy expects it."""

import json
import sys
import time
import urllib.request

import sushy
from sushy import auth, exceptions

node = json.load(open(sys.argv[1]))["nodes"][0]
info = node["driver_info"]
assert node["driver"] == "redfish", node["driver"]


def until(what, ready):
    """Looks until it is so."""
    deadline = time.monotonic() + 60
    while not ready():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def refused(what, action):
    try:
        action()
    except exceptions.SushyError as error:
        return error
    raise AssertionError(f"{what} was not refused")


for kind in (auth.BasicAuth, auth.SessionAuth, auth.SessionOrBasicAuth):
    root = sushy.Sushy(info["redfish_address"], auth=kind(info["redfish_username"], info["redfish_password"]), verify=False)
    system = root.get_system(info["redfish_system_id"])
    assert system.name == node["name"], system.name

assert [one.identity for one in root.get_system_collection().get_members()] == ["1"]
assert system.uuid and system.power_state == sushy.PowerState.OFF

# power: each reset type that Ironic asks for
allowed = system.get_allowed_reset_system_values()
assert {sushy.ResetType.ON, sushy.ResetType.FORCE_OFF, sushy.ResetType.GRACEFUL_SHUTDOWN, sushy.ResetType.NMI} <= allowed, allowed


def power(state):
    def seen():
        system.refresh(force=True)
        return system.power_state == state

    return seen


system.reset_system(sushy.ResetType.ON)
until("it is on", power(sushy.PowerState.ON))
system.reset_system(sushy.ResetType.FORCE_RESTART)
system.reset_system(sushy.ResetType.FORCE_OFF)
until("it is off", power(sushy.PowerState.OFF))
refused("a restart without power", lambda: system.reset_system(sushy.ResetType.FORCE_RESTART))

# boot device
assert sushy.BootSource.PXE in system.get_allowed_system_boot_source_values()
system.set_system_boot_options(sushy.BootSource.PXE, enabled=sushy.BootSourceOverrideEnabled.ONCE, mode=sushy.BootSourceOverrideMode.UEFI)
system.refresh(force=True)
assert system.boot.target == sushy.BootSource.PXE and system.boot.enabled == sushy.BootSourceOverrideEnabled.ONCE
system.set_system_boot_options(sushy.BootSource.HDD, enabled=sushy.BootSourceOverrideEnabled.CONTINUOUS, mode=sushy.BootSourceOverrideMode.LEGACY)
system.refresh(force=True)
assert (system.boot.target, system.boot.mode) == (sushy.BootSource.HDD, sushy.BootSourceOverrideMode.LEGACY)
system.set_indicator_led(sushy.IndicatorLED.LIT)
system.refresh(force=True)
assert system.indicator_led == sushy.IndicatorLED.LIT

# inspection
assert system.memory_summary.size_gib == 64 and system.processors.summary.count == 16, system.processors.summary
assert list(system.ethernet_interfaces.summary) == [node["ports"][0]["address"].lower()], system.ethernet_interfaces.summary
assert system.storage.max_drive_size_bytes > 1 << 30
assert system.chassis[0].name == node["name"]

# virtual media
[manager] = system.managers
[drive] = manager.virtual_media.get_members()
drive.insert_media("http://127.0.0.1/boot.iso")
drive.refresh(force=True)
assert drive.inserted and drive.image == "http://127.0.0.1/boot.iso" and drive.image_name == "boot.iso"
drive.eject_media()
drive.refresh(force=True)
assert not drive.inserted

# who is not known is refused, and sees nothing but the root
bad = refused("a wrong password", lambda: sushy.Sushy(info["redfish_address"], auth=auth.SessionAuth("admin", "wrong"), verify=False).get_system("/redfish/v1/Systems/1"))
assert isinstance(bad, exceptions.AccessError), bad
assert json.load(urllib.request.urlopen(info["redfish_address"] + "/redfish/v1/"))["RedfishVersion"]
print("sushy: ok")
