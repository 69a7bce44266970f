// Package mediatype tells a file's media type by its name, with the same answers as Pulp on every machine.
package mediatype

import "strings"

// Default is the type of a file whose name says nothing. It is also what .bin, .exe, .so and their like are.
const Default = "application/octet-stream"

// longest is the length of the longest extension that is known.
const longest = len("webmanifest")

// Of returns the media type of the file at a slash-separated path, without parameters. It goes by the last extension
// alone: of "x.tar.gz", by "gz". A name has none if there is nothing but dots before it, as in ".gz".
func Of(path string) string {
	name := path[strings.LastIndexByte(path, '/')+1:]
	dot := strings.LastIndexByte(name, '.')
	if dot < 0 || strings.Trim(name[:dot], ".") == "" || len(name)-dot-1 > longest {
		return Default
	}
	var lower [longest]byte
	extension := lower[:copy(lower[:], name[dot+1:])]
	for i, c := range extension {
		if 'A' <= c && c <= 'Z' {
			extension[i] += 'a' - 'A'
		}
	}
	return byExtension(extension)
}

func byExtension(extension []byte) string {
	switch string(extension) {
	case "epub":
		return "application/epub+zip"
	case "gz", "gzip":
		return "application/gzip"
	case "jar":
		return "application/java-archive"
	case "js", "mjs":
		return "application/javascript"
	case "json":
		return "application/json"
	case "jsonld":
		return "application/ld+json"
	case "webmanifest":
		return "application/manifest+json"
	case "doc", "dot", "wiz":
		return "application/msword"
	case "oda":
		return "application/oda"
	case "ogx":
		return "application/ogg"
	case "pdf":
		return "application/pdf"
	case "p7c":
		return "application/pkcs7-mime"
	case "ai", "eps", "ps":
		return "application/postscript"
	case "rtf":
		return "application/rtf"
	case "azw":
		return "application/vnd.amazon.ebook"
	case "mpkg":
		return "application/vnd.apple.installer+xml"
	case "m3u", "m3u8":
		return "application/vnd.apple.mpegurl"
	case "xul":
		return "application/vnd.mozilla.xul+xml"
	case "xlb", "xls":
		return "application/vnd.ms-excel"
	case "eot":
		return "application/vnd.ms-fontobject"
	case "pot", "ppa", "pps", "ppt", "pwz":
		return "application/vnd.ms-powerpoint"
	case "odp":
		return "application/vnd.oasis.opendocument.presentation"
	case "ods":
		return "application/vnd.oasis.opendocument.spreadsheet"
	case "odt":
		return "application/vnd.oasis.opendocument.text"
	case "pptx":
		return "application/vnd.openxmlformats-officedocument.presentationml.presentation"
	case "xlsx":
		return "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
	case "docx":
		return "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
	case "rar":
		return "application/vnd.rar"
	case "vsd":
		return "application/vnd.visio"
	case "wasm":
		return "application/wasm"
	case "7z":
		return "application/x-7z-compressed"
	case "abw":
		return "application/x-abiword"
	case "bcpio":
		return "application/x-bcpio"
	case "bz":
		return "application/x-bzip"
	case "bz2":
		return "application/x-bzip2"
	case "cda":
		return "application/x-cdf"
	case "cpio":
		return "application/x-cpio"
	case "csh":
		return "application/x-csh"
	case "dvi":
		return "application/x-dvi"
	case "arc":
		return "application/x-freearc"
	case "gtar":
		return "application/x-gtar"
	case "hdf":
		return "application/x-hdf"
	case "h5":
		return "application/x-hdf5"
	case "php":
		return "application/x-httpd-php"
	case "latex":
		return "application/x-latex"
	case "mif":
		return "application/x-mif"
	case "cdf", "nc":
		return "application/x-netcdf"
	case "p12", "pfx":
		return "application/x-pkcs12"
	case "ram":
		return "application/x-pn-realaudio"
	case "pyc", "pyo":
		return "application/x-python-code"
	case "sh":
		return "application/x-sh"
	case "shar":
		return "application/x-shar"
	case "swf":
		return "application/x-shockwave-flash"
	case "sv4cpio":
		return "application/x-sv4cpio"
	case "sv4crc":
		return "application/x-sv4crc"
	case "tar":
		return "application/x-tar"
	case "tcl":
		return "application/x-tcl"
	case "tex":
		return "application/x-tex"
	case "texi", "texinfo":
		return "application/x-texinfo"
	case "roff", "t", "tr":
		return "application/x-troff"
	case "man":
		return "application/x-troff-man"
	case "me":
		return "application/x-troff-me"
	case "ms":
		return "application/x-troff-ms"
	case "ustar":
		return "application/x-ustar"
	case "src":
		return "application/x-wais-source"
	case "xz":
		return "application/x-xz"
	case "xhtml":
		return "application/xhtml+xml"
	case "rdf", "wsdl", "xpdl", "xsl":
		return "application/xml"
	case "zip":
		return "application/zip"
	case "zst", "zstd":
		return "application/zstd"
	case "3gp", "3gpp":
		return "audio/3gpp"
	case "3g2", "3gpp2":
		return "audio/3gpp2"
	case "aac", "adts", "ass", "loas":
		return "audio/aac"
	case "au", "snd":
		return "audio/basic"
	case "mp2", "mp3":
		return "audio/mpeg"
	case "oga":
		return "audio/ogg"
	case "opus":
		return "audio/opus"
	case "weba":
		return "audio/webm"
	case "aif", "aifc", "aiff":
		return "audio/x-aiff"
	case "mid", "midi":
		return "audio/x-midi"
	case "ra":
		return "audio/x-pn-realaudio"
	case "wav":
		return "audio/x-wav"
	case "otf":
		return "font/otf"
	case "ttf":
		return "font/ttf"
	case "woff":
		return "font/woff"
	case "woff2":
		return "font/woff2"
	case "avif":
		return "image/avif"
	case "gif":
		return "image/gif"
	case "heic":
		return "image/heic"
	case "heif":
		return "image/heif"
	case "ief":
		return "image/ief"
	case "jpe", "jpeg", "jpg":
		return "image/jpeg"
	case "png":
		return "image/png"
	case "svg":
		return "image/svg+xml"
	case "tif", "tiff":
		return "image/tiff"
	case "ico":
		return "image/vnd.microsoft.icon"
	case "webp":
		return "image/webp"
	case "ras":
		return "image/x-cmu-raster"
	case "bmp":
		return "image/x-ms-bmp"
	case "pnm":
		return "image/x-portable-anymap"
	case "pbm":
		return "image/x-portable-bitmap"
	case "pgm":
		return "image/x-portable-graymap"
	case "ppm":
		return "image/x-portable-pixmap"
	case "rgb":
		return "image/x-rgb"
	case "xbm":
		return "image/x-xbitmap"
	case "xpm":
		return "image/x-xpixmap"
	case "xwd":
		return "image/x-xwindowdump"
	case "eml", "mht", "mhtml", "nws":
		return "message/rfc822"
	case "ics":
		return "text/calendar"
	case "css":
		return "text/css"
	case "csv":
		return "text/csv"
	case "htm", "html":
		return "text/html"
	case "bat", "c", "h", "ksh", "pl", "txt":
		return "text/plain"
	case "rtx":
		return "text/richtext"
	case "tsv":
		return "text/tab-separated-values"
	case "py":
		return "text/x-python"
	case "etx":
		return "text/x-setext"
	case "sgm", "sgml":
		return "text/x-sgml"
	case "vcf":
		return "text/x-vcard"
	case "xml":
		return "text/xml"
	case "ts":
		return "video/mp2t"
	case "mp4":
		return "video/mp4"
	case "m1v", "mpa", "mpe", "mpeg", "mpg":
		return "video/mpeg"
	case "ogv":
		return "video/ogg"
	case "mov", "qt":
		return "video/quicktime"
	case "webm":
		return "video/webm"
	case "movie":
		return "video/x-sgi-movie"
	}
	return Default
}
