package main

import (
	"os"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// timerSlack is how late the kernel may wake a thread of a node that sleeps.
// A busy Go program has a thread that looks every 20 microseconds whether the
// others get on; with the kernel's slack of 50 that is 14 000 switches a
// second, and an eighth of what a relayed byte costs all nodes together. No
// timer of ours is finer than a millisecond, and what comes over the network
// waits for none.
const timerSlack = time.Millisecond

// longRunning are the commands that last and work for others.
var longRunning = map[string]bool{"mount": true, "relay": true, "demo": true}

// relaxedPid is a variable of the environment by which a process knows that it
// runs anew already: its number.
const relaxedPid = "_WANDERFS_RELAXED"

// relaxTimers gives the process a timer slack of timerSlack. A thread inherits
// it from the one that began it, and the runtime has begun some before main, so
// the program runs itself anew, in the same process and under the same name. If
// that fails it goes on as it is. It must be called before anything is opened or
// begun.
func relaxTimers(args []string) {
	if len(args) < 2 || !longRunning[args[1]] {
		return
	}
	pid := strconv.Itoa(os.Getpid())
	again := os.Getenv(relaxedPid) == pid
	_ = os.Unsetenv(relaxedPid) // nobody else's business
	if again || relaxed() {
		return
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	// A thread of a real-time class has no slack, and the kernel does not say
	// that it set none.
	if unix.Prctl(unix.PR_SET_TIMERSLACK, uintptr(timerSlack), 0, 0, 0) != nil || !relaxed() {
		return
	}
	if self, err := os.Executable(); err == nil { // not /proc/self/exe: ps would call it exe
		_ = syscall.Exec(self, args, append(os.Environ(), relaxedPid+"="+pid)) // where it fails, no harm is done
	}
}

// relaxed reports whether this thread has the slack, or will never have it.
func relaxed() bool {
	now, err := unix.PrctlRetInt(unix.PR_GET_TIMERSLACK, 0, 0, 0, 0)
	return err != nil || time.Duration(now) >= timerSlack
}
