package pgtemp

import (
	"os"
	"strconv"
	"strings"
	"syscall"
)

// A cluster grows with what is written to it: what must be free for another one
// in memory, of the file system and of the machine.
const (
	roomInMemory  uint64 = 4 << 30
	memoryToSpare uint64 = 6 << 30
)

// memoryDir is a folder in memory with room for a cluster, or empty.
func memoryDir() string {
	const dir = "/dev/shm"
	var fs syscall.Statfs_t
	if err := syscall.Statfs(dir, &fs); err != nil || fs.Bavail*uint64(fs.Bsize) < roomInMemory {
		return ""
	}
	said, _ := os.ReadFile("/proc/meminfo")
	for line := range strings.Lines(string(said)) {
		if fields := strings.Fields(line); len(fields) == 3 && fields[0] == "MemAvailable:" {
			if kilobytes, err := strconv.ParseUint(fields[1], 10, 64); err == nil && kilobytes<<10 >= memoryToSpare {
				return dir
			}
		}
	}
	return ""
}
