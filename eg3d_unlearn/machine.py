"""Where a result comes from: versions, hardware, memory."""
from __future__ import annotations

import importlib.metadata
import platform
import sys

import numpy as np
import torch

import eg3d_unlearn


def versions() -> dict[str, str]:
    """Versions of what took part."""
    found = {'eg3d_unlearn': eg3d_unlearn.__version__, 'python': platform.python_version(), 'torch': torch.__version__,
             'numpy': np.__version__}
    for package in ('torchvision', 'lpips', 'facenet-pytorch'):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def hardware(device: torch.device) -> dict:
    """The machine: processor, threads, memory, and the GPU if one was used."""
    import psutil
    found = {'system': platform.platform(), 'processor': processor_name(), 'cores': psutil.cpu_count(),
             'torch_threads': torch.get_num_threads(), 'memory_gib': round(psutil.virtual_memory().total / 2**30, 1),
             'device': str(device)}
    if device.type == 'cuda':
        found['gpu'] = torch.cuda.get_device_name(device)
        found['gpu_memory_gib'] = round(torch.cuda.get_device_properties(device).total_memory / 2**30, 1)
    return found


def processor_name() -> str:
    """The processor's model, as the system calls it."""
    try:
        with open('/proc/cpuinfo', encoding='utf-8') as file:
            return next(line.split(':')[1].strip() for line in file if line.startswith('model name'))
    except (OSError, StopIteration):
        return platform.processor() or 'unknown'


def peak_memory(device: torch.device) -> dict[str, float]:
    """Highest memory of this process so far, GiB: the host's, and the GPU's if one was used."""
    peak = {}
    try:
        import resource
        scale = 2**30 if sys.platform == 'darwin' else 2**20  # macOS counts bytes, Linux KiB
        peak['host_gib'] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / scale, 3)
    except ImportError:              # Windows
        import psutil
        peak['host_gib'] = round(psutil.Process().memory_info().peak_wset / 2**30, 3)
    if device.type == 'cuda':
        peak['gpu_gib'] = round(torch.cuda.max_memory_allocated(device) / 2**30, 3)
    return peak
