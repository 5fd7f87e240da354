"""A byte there and back on the null modem, beside other libraries: `.ci/windows tests/windows/roundtrip.py [PACKAGES]`.

PACKAGES is a folder where `serialx` and the public `anyserial` are unpacked, each in a folder of its name; what is not
there is left out. Each contestant is a process of its own, and they take turns, so that the ratios are of one run.
"""

import asyncio
import os
import statistics
import subprocess
import sys
import time

A, B = os.environ["WINDOWS_PORTS"].split()[:2]
TRIPS, TURNS = 400, 3


def measured(step):
    times = []
    for _ in range(TRIPS):
        begin = time.perf_counter()
        step()
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


async def measured_async(step):
    times = []
    for _ in range(TRIPS):
        begin = time.perf_counter()
        await step()
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


async def anyserial_async():
    from anyserial import SerialConfig, open_serial_port

    async with await open_serial_port(A, SerialConfig(baudrate=115_200)) as port:

        async def step():
            await port.send(b"x")
            await port.receive(1)

        return await measured_async(step)


async def by_hand(gives_way):
    """The system calls alone, each followed by a turn of the loop even if it has ended at once, or only if not."""
    import _overlapped

    import serial

    with serial.Serial(A, 115_200) as port:
        handle = port._port_handle

        class Device:
            def fileno(self):
                return handle

        device, proactor = Device(), asyncio.get_running_loop()._proactor
        proactor._register_with_iocp(device)

        async def ended(operation):
            future = proactor._register(operation, device, lambda *_: operation.getresult())
            if not future.done():
                return await future
            if gives_way:
                await asyncio.sleep(0)
            return future.result()

        async def step():
            operation = _overlapped.Overlapped(0)
            operation.WriteFile(handle, b"x")
            await ended(operation)
            operation = _overlapped.Overlapped(0)
            operation.ReadFile(handle, 1)
            await ended(operation)

        return await measured_async(step)


async def serialx_async():
    from serialx import open_serial_connection

    reader, writer = await open_serial_connection(A, baudrate=115_200)

    async def step():
        writer.write(b"x")
        await reader.readexactly(1)

    return await measured_async(step)


def blocking():
    from anyserial.sync import SerialPort

    with SerialPort.open(A) as port:

        def step():
            port.send(b"x")
            port.receive(1)

        return measured(step)


def pyserial():
    import serial

    with serial.Serial(A, 115_200) as port:

        def step():
            port.write(b"x")
            port.read(1)

        return measured(step)


def on_trio():
    import trio

    return trio.run(anyserial_async)


CONTESTANTS = {
    "asyncio": lambda: asyncio.run(anyserial_async()),
    "asyncio by hand": lambda: asyncio.run(by_hand(gives_way=True)),
    "the same, fewer turns": lambda: asyncio.run(by_hand(gives_way=False)),
    "trio": on_trio,
    "blocking": blocking,
    "pyserial": pyserial,
    "serialx": lambda: asyncio.run(serialx_async()),
    "public anyserial": lambda: asyncio.run(anyserial_async()),
}


def echo():
    import serial

    with serial.Serial(B, 115_200) as port:
        print("ready", flush=True)
        while True:
            port.write(port.read(1))


def main():
    if len(sys.argv) > 2:
        print((CONTESTANTS | {"echo": echo})[sys.argv[2]](), flush=True)
        os._exit(0)
    folder = sys.argv[1] if len(sys.argv) > 1 else ""
    found = {name: [] for name in CONTESTANTS}
    with subprocess.Popen([sys.executable, __file__, "-", "echo"], stdout=subprocess.PIPE) as far:
        far.stdout.readline()
        for _ in range(TURNS):
            for name, times in found.items():
                extra = os.path.join(folder, name.replace("public ", ""))
                needs_more = name in ("serialx", "public anyserial")
                if needs_more and not os.path.isdir(extra):
                    continue
                environment = dict(os.environ)
                if needs_more:
                    environment["PYTHONPATH"] = f"{extra};{os.environ['PYTHONPATH']}"
                run = subprocess.run(
                    [sys.executable, __file__, "-", name], env=environment, capture_output=True, text=True, timeout=120
                )
                if run.returncode:
                    print(name, "failed:", run.stderr.strip().splitlines()[-1:])
                else:
                    times.append(float(run.stdout))
        far.kill()
    own = min(found["asyncio"])
    for name, times in found.items():
        if times:
            print(f"{name:18} {min(times) * 1e6:8.0f} us   {min(times) / own:5.2f}")


if __name__ == "__main__":
    main()
