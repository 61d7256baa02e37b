package index

import (
	"math/bits"
	"path"
	"strings"

	"wanderfs/cache/chunk"
)

// Type classes, clear in a posting so that a super node can filter by them.
const (
	classOther = iota
	classVideo
	classAudio
	classImage
	classText
	classArchive
	classApp
	classFolder
	classMax = 31 // later versions may name more; a query masks 32 of them
)

const (
	videoExt   = " mp4 mkv avi webm mov m4v mpg mpeg ogv wmv flv ts m2ts 3gp vob "
	audioExt   = " mp3 flac ogg oga opus m4a wav aac wma aiff ape alac mka mid midi "
	imageExt   = " jpg jpeg png gif webp svg tif tiff bmp heic avif jxl psd raw ico "
	textExt    = " txt pdf epub md doc docx odt rtf html htm mobi azw3 djvu tex csv xls xlsx ods ppt pptx odp srt json xml "
	archiveExt = " zip tar gz tgz bz2 xz zst 7z rar iso img lz4 "
	appExt     = " exe msi apk deb rpm dmg appimage jar pkg flatpak snap "
)

// classOf tells the type class by kind and the name's extension.
func classOf(name string, kind chunk.Kind) byte {
	if kind == chunk.Folder {
		return classFolder
	}
	ext := strings.ToLower(strings.TrimPrefix(path.Ext(name), "."))
	if ext == "" || strings.ContainsAny(ext, " ") {
		return classOther
	}
	for class, list := range map[byte]string{
		classVideo: videoExt, classAudio: audioExt, classImage: imageExt,
		classText: textExt, classArchive: archiveExt, classApp: appExt,
	} {
		if strings.Contains(list, " "+ext+" ") {
			return class
		}
	}
	return classOther
}

// logSize is the bit length of a size in bytes.
func logSize(size int64) byte { return byte(bits.Len64(uint64(max(0, size)))) }
