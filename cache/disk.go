package cache

// disk is what the cache does to the file system, so that tests can make it
// fail or stop at every step. Errors carry an errno and no name.
type disk interface {
	open(name string) (file, error)   // for reading; never follows a symlink or blocks
	create(name string) (file, error) // for writing; must not exist; mode 0600
	rename(from, to string) error
	remove(name string) error
	mkdir(name string) error                         // mode 0700
	free(dir string) (avail, total int64, err error) // bytes; avail is what a plain user may fill
}

// file is an open file of a disk.
type file interface {
	ReadAt(p []byte, off int64) (int, error) // io.EOF at the end
	Write(p []byte) (int, error)
	stamp() (stamp, error)
	Sync() error
	Close() error
}

// stamp tells whether a file is still the one that was verified: every write,
// truncation or replacement changes it.
type stamp struct {
	ino          uint64
	size         int64
	mtime, ctime int64 // ns
}
