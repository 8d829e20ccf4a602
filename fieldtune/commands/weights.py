"""``fieldtune weights ACTION --port P``: what a board keeps in its flash of what it has learned."""

from __future__ import annotations

import argparse
import dataclasses
import json
from typing import TYPE_CHECKING, Any

from fieldtune.commands import options
from fieldtune.console import say
from fieldtune.errors import UserError

if TYPE_CHECKING:
    from ondevice.device import Device
    from ondevice.weight_store import WeightStore

NAME = "weights"
HELP = "show, save, load or erase the weights that a board keeps in its flash"
ACTIONS = {
    "show": "what both slots hold",
    "save": "the weights in use, in place of the older of two sets",
    "load": "the newest set",
    "erase": "both slots",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``fieldtune weights``."""
    parser.add_argument(
        "action",
        nargs="?",
        choices=tuple(ACTIONS),
        default="show",
        help="; ".join(f"{name}: {meaning}" for name, meaning in ACTIONS.items()) + " (default show)",
    )
    parser.add_argument("--port", required=True, help="serial port of a board that runs the firmware")
    parser.add_argument("--baud", type=options.positive, default=115200, help="its speed (default 115200)")
    parser.add_argument("--older", action="store_true", help="load the set before the newest: roll back")
    options.add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Do one thing and tell what has come of it."""
    from ondevice.device import Device
    from ondevice.weight_store import WeightStore

    if args.older and args.action != "load":
        raise UserError(f"--older is for load; leave it out of {args.action}")
    with Device.open(args.port, baud=args.baud, log=say) as device:
        found = _do(args, device, WeightStore(device))
    if args.json:
        print(json.dumps(found, indent=1))
    else:
        print(_told(args.action, found))
    return 0


def _do(args: argparse.Namespace, device: Device, store: WeightStore) -> dict[str, Any]:
    if args.action == "save":
        return {"sequence": store.save()}
    if args.action == "load":
        return dataclasses.asdict(store.load(older=args.older))
    if args.action == "erase":
        store.erase()
        return {}
    hello = device.hello
    return {
        "model": hello.model,
        "model_hash": hello.model_hash,
        "plan_hash": hello.plan_hash,
        "step": hello.step,
        "restored": hello.restored,
        "room": hello.store_room,
        "slots": [dataclasses.asdict(slot) for slot in store.slots()],
    }


def _told(action: str, found: dict[str, Any]) -> str:
    if action == "save":
        return f"saved as number {found['sequence']}"
    if action == "load":
        return f"loaded save {found['sequence']}, with {found['step']} training steps behind it"
    if action == "erase":
        return "erased both slots; the weights in use stay until the board starts anew"
    return "\n".join(_shown(found))


def _shown(found: dict[str, Any]) -> list[str]:
    origin = "from a slot" if found["restored"] else "from the initial weights"
    lines = [
        f"{found['model']}: model {found['model_hash']:08x}, plan {found['plan_hash']:08x}",
        f"  in use  {origin}, {found['step']} training steps",
    ]
    for index, slot in enumerate(found["slots"]):
        text = slot["state"]
        if slot["sequence"]:
            text += f": save {slot['sequence']}, {slot['step']} steps, {slot['bytes']:,} B"
        if slot["state"] == "foreign":
            text += f", of model {slot['model_hash']:08x} with plan {slot['plan_hash']:08x}"
        lines.append(f"  slot {index}  {text}")
    return lines
