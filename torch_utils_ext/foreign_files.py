"""Says what a file is that people give in place of a network pickle."""

from __future__ import annotations

_WEIGHTS = "which holds weights without the network; give the .pkl of NVIDIA's code"
_TORCH_LEGACY = b'\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.'


def describe_foreign(head: bytes) -> str | None:
    """Half a sentence about a file with these first bytes, or None when it may be a pickle."""
    if not head:
        return 'the file is empty'
    if head.startswith(b'version https://git-lfs'):
        return 'it is a Git LFS pointer, and `git lfs pull` fetches the real file'
    if head.startswith(b'PK\x03\x04'):
        if b'.npy' in head[:200]:
            return 'it is a numpy .npz archive; latents go to --latent'
        return f'it is an archive of torch.save (or another zip), {_WEIGHTS}'
    if head.startswith(_TORCH_LEGACY):
        return f'it is a file of torch.save in its old format, {_WEIGHTS}'
    if head.startswith(b'\x93NUMPY'):
        return 'it is a numpy .npy file; latents go to --latent'
    if head.startswith(b'\x1f\x8b'):
        return 'it is compressed with gzip, and `gunzip` unpacks it'
    if head.startswith((b'\x89PNG', b'\xff\xd8\xff')):
        return 'it is a picture; pictures go to --image'
    if head[8:9] == b'{' and head[:8].endswith(b'\x00\x00\x00\x00'):
        return f'it is a safetensors file, {_WEIGHTS}'
    if head.startswith(b'\x80'):
        return None
    if head.lstrip()[:1] == b'<':
        return 'it is a web page, so the download went wrong'
    if all(32 <= byte < 127 or byte in b'\t\r\n' for byte in head[:512]):
        return "it is a text file (or a pickle of protocol 0, which NVIDIA's code never writes)"
    return 'it does not start as a pickle of protocol 2 to 5'
