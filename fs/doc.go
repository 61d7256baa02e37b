// Package fs is the drive: the tree that users see, mounted with FUSE.
//
//	README.txt              how to use the drive
//	hash/<cid>              any content by its CID
//	search/<query>/<name>   results of a query
//	shared/                 a plain local directory; what it holds is published
//	status/                 plain text for the owner
//
// It promises that everything outside shared is read-only (EROFS), that
// listing, stat of known things, statfs and xattrs never wait for the
// network, that every wait has a deadline, that an interrupted call returns
// at once, and that names made by strangers never become paths: they are
// escaped, made unique and never used to open a local file.
//
// What is on the network comes from a Library, what is shared lies in the
// directory of a Share. Both are given by the caller; fs knows neither peers
// nor relays. The package never opens a file below its own mountpoint.
package fs
