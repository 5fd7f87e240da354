"""Which machine is emulated. All that tells one from another is a value here."""

from __future__ import annotations

import dataclasses
from typing import Final


@dataclasses.dataclass(frozen=True, slots=True)
class Architecture:
    """A machine, and the Debian packages that it is made of.

    Attributes:
        debian: What Debian calls its processor.
        qemu: The emulator.
        qemu_package: Where that is.
        machine: What the emulator is told to be; the processor aside.
        processor: Which one, if it is emulated.
        virtio: What the names of virtio devices end with, which follows from the bus they are on.
        console: Where the kernel writes, and the device of that.
        kernel_options: For the kernel, besides the console.
        kernels: Meta packages that lead to a kernel, the preferred first.
        programs: Packages that are laid over the host's root.
        modules: Of the kernel, on the way to the bus.
        python: Runs Python in the guest, and is among the programs; empty where the host's own runs there.
    """

    debian: str
    qemu: str
    qemu_package: str
    machine: tuple[str, ...]
    processor: tuple[str, ...]
    virtio: str
    console: tuple[str, str]
    kernel_options: str
    kernels: tuple[str, ...]
    programs: tuple[str, ...]
    modules: tuple[str, ...] = ()
    python: str = ""


# The "cloud" kernels have no USB serial drivers, and before 6.12 xr_serial has no RS-485.

#: The host's own processor: its programs run in the guest.
AMD64: Final = Architecture(
    debian="amd64",
    qemu="qemu-system-x86_64",
    qemu_package="qemu-system-x86",
    machine=("-smp", "1"),
    processor=("-cpu", "max"),
    virtio="pci",
    console=("ttyS0", "isa-serial"),
    kernel_options="random.trust_cpu=on",
    kernels=("linux-image-6.12-amd64", "linux-image-amd64"),
    programs=("busybox-static", "udev", "libkmod2"),
    modules=("virtio_pci",),
)

#: An ARM board with two PL011s, for whose sake it is there. It has two processors, and starts one. What is installed on
#: the host stays at its own paths, but of its programs only those run that Debian has for this processor as well.
ARM64: Final = Architecture(
    debian="arm64",
    qemu="qemu-system-aarch64",
    qemu_package="qemu-system-arm",
    machine=("-machine", "xlnx-versal-virt"),
    processor=(),
    virtio="device",
    console=("hvc0", "virtconsole"),
    kernel_options="nosmp",
    kernels=("linux-image-6.12-arm64", "linux-image-arm64"),
    programs=("busybox-static", "udev", "python3", "bash"),
    modules=("virtio_mmio",),
    python="/usr/bin/python3",
)
