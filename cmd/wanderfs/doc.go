/*
Wanderfs mounts a drive on which people read and share files without anybody
learning who reads and who shares.

	wanderfs mount [MOUNTPOINT]     a node with its drive; default ~/wanderfs; stays in the foreground
	wanderfs umount [MOUNTPOINT]    unmount, also a dead one; says who holds it
	wanderfs relay                  a node without a drive: it relays, and is a super node when reachable
	wanderfs status [--json]        what the running node is doing
	wanderfs search QUERY...        print results; --json
	wanderfs get CID [-o PATH]      fetch a file or folder; resumes; -o - writes to stdout; --wait for a source
	wanderfs share PATH...          copy into shared; --link publishes in place; prints CIDs
	wanderfs hash PATH...           print the CIDs that publishing would give; touches no network
	wanderfs doctor [--fix]         check the machine; say, or do, what helps
	wanderfs demo [--once] [--yes]  a private network on this machine, and the whole way through it
	wanderfs version

On the drive, hash/<cid> is any content by its CID, search/<query>/ holds what
a query finds, files copied into shared/ are published, and status/ tells what
the node is doing.

# Flags of mount and relay

They are listed by wanderfs mount --help. Every flag but --lab and --data may
stand in config.toml in the data directory, under its name without the dashes,
and in the environment as WANDERFS_NAME: --session-life is WANDERFS_SESSION_LIFE
there. The command line goes before the environment, the environment before
the file.

# Exit status

0 means done, 1 failed, 2 a wrong use of the command. Errors read "wanderfs:
what failed: why", with a line "hint: what to do" where one helps.
*/
package main
