"""The same meter as pymodbus plays it: ``python simulator.py DEVICE`` says when it listens, and serves until killed."""

import asyncio
import sys

from pymodbus.server import ModbusSerialServer
from pymodbus.simulator import DataType, SimData, SimDevice

DISCRETE = [SimData(0, values=False, datatype=DataType.BITS)]
HOLDING = [SimData(0x10, values=5, datatype=DataType.REGISTERS)]
INPUT = [SimData(0, values=[2307, 0, 1, 0x86A0], datatype=DataType.REGISTERS)]
METER = SimDevice(id=1, simdata=(DISCRETE, DISCRETE, HOLDING, INPUT))


async def serve() -> None:
    server = ModbusSerialServer(METER, port=sys.argv[1], baudrate=115_200, bytesize=8, parity="N", stopbits=1)
    await server.serve_forever(background=True)
    print("listening", flush=True)
    await asyncio.Event().wait()


asyncio.run(serve())
