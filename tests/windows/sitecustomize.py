"""What is missing under Wine; a real Windows never sees this file.

Wine lists only the ports that it makes itself, and those stay when their devices go. So the list is made here.

At its start trio asks for a socket's handle with SIO_BSP_HANDLE_SELECT, to see that no layered provider sits on its
sockets. Wine does not know that request. It knows SIO_BASE_HANDLE, which gives the same handle without a provider.
"""

import ctypes
import importlib.abc
import importlib.util
import os
import sys
import winreg


class _Trio(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name != "trio._core._io_windows":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        execute = spec.loader.exec_module

        def exec_module(module):
            execute(module)
            real, codes = module._get_underlying_socket, module.WSAIoctls

            def underlying(sock, *, which=codes.SIO_BASE_HANDLE):
                return real(sock, which=codes.SIO_BASE_HANDLE if which == codes.SIO_BSP_HANDLE_SELECT else which)

            module._get_underlying_socket = underlying

        spec.loader.exec_module = exec_module
        return spec


def _list_ports(names):
    with winreg.CreateKey(winreg.HKEY_LOCAL_MACHINE, r"HARDWARE\DEVICEMAP\SERIALCOMM") as key:
        for name in names:
            winreg.SetValueEx(key, rf"\Device\{name}", 0, winreg.REG_SZ, name)


if hasattr(ctypes.WinDLL("ntdll"), "wine_get_version"):
    sys.meta_path.insert(0, _Trio())
    _list_ports(os.environ["WINDOWS_PORTS"].split()[:2])
