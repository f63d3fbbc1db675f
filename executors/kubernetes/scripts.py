"""What runs in the helper's containers: plain shell, as busybox and Debian have it.

``input`` waits until the input is there, and ``keeper`` holds the output until it was read, watching it meanwhile. TAKE
and GIVE are started beside them through ``exec``. A connection of ``exec`` can't be half-closed, so whoever sends says
how long it is, and who reads reads just that; both sides compare a sha256.
"""

from __future__ import annotations

__all__ = ["GIVE", "KEEP", "OUT_OF_DISK", "OUT_OF_FILES", "SOCKET", "TAKE", "WAIT", "shell"]

# Exit codes of the keeper and of GIVE: what the model did too much of.
OUT_OF_DISK, OUT_OF_FILES, SOCKET = 41, 42, 43

# The init container. /control is shared by the helper's containers, and the model does not have it.
WAIT = """
trap 'exit 1' TERM
until [ -e /control/ready ]; do sleep 0.2 2>/dev/null || sleep 1; done
"""

# TAKE SIZE SHA256 TRY: unpack a tar of that many bytes from standard input, all of it or nothing.
TAKE = r"""
set -e
size=$1 wanted=$2 try=$3
cd /staged
mkdir ".$try"
mkfifo "/control/in$try"
sha256sum < "/control/in$try" > "/control/in$try.sum" &
head -c "$size" | tee "/control/in$try" | tar -x -o -f - -C ".$try"
wait
read -r found rest < "/control/in$try.sum"
if [ "$found" != "$wanted" ]; then echo "the sha256 of the input is $found, expected $wanted" >&2; exit 3; fi
mv ".$try"/* .
for left in .[0-9]*; do rm -rf "$left"; done
: > /control/ready
"""

# KEEP DISK_KIB MOST_ENTRIES DEPTH. A shell that can't fork ends, and the model may have taken the last process that the
# pod may have: it begins again then, in the same process.
KEEP = r"""
trap 'exec sh -c "$KEEP" keeper "$@"' EXIT
trap 'trap - EXIT; exit 0' TERM
end() { trap - EXIT; exit "$1"; }
while [ ! -e /control/taken ]; do
  # Who reads the output counts as well, and must not lose this container in the middle.
  if [ -e /control/read ]; then sleep 0.2 2>/dev/null || sleep 1; continue; fi
  entries=$(find /output -print0 2>/dev/null | tr -cd '\000' | head -c "$2" | wc -c)
  if [ "${entries:-0}" -ge "$2" ]; then end 42; fi
  if [ -n "$(find /output -mindepth "$3" 2>/dev/null | head -c 1)" ]; then end 42; fi
  find /output -type d ! -perm -500 -exec chmod u+rx {} \; 2>/dev/null
  used=$(du -sk /output 2>/dev/null | cut -f 1)
  if [ "${used:-0}" -gt "$1" ]; then end 41; fi
  sleep 0.3 2>/dev/null || sleep 1
done
end 0
"""

# GIVE TRY: the output as a tar on standard output, its sha256 on standard error; then wait for a line that says that it
# came. What modes the model left its files with is no reason that they can't be read.
GIVE = r"""
set -e
: > /control/read
cd /output
find . -type d ! -perm -500 -exec chmod u+rx {} \; 2>/dev/null || :
find . -type f ! -perm -400 -exec chmod u+r {} + 2>/dev/null || :
if [ -n "$(find . -type s | head -c 1)" ]; then exit 43; fi
mkfifo "/control/out$1"
sha256sum < "/control/out$1" > "/control/out$1.sum" &
{ tar -c -f - . || : > "/control/out$1.bad"; } | tee "/control/out$1"
wait
[ ! -e "/control/out$1.bad" ]
read -r found rest < "/control/out$1.sum"
echo "sha256 $found" >&2
read -r answer
[ "$answer" = taken ]
: > /control/taken
"""


def shell(script: str, *arguments: str) -> list[str]:
    """The command that runs a script with arguments, which the shell does not read as code."""
    return ["sh", "-c", script, "autoscorer", *arguments]
