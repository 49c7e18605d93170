package object

import (
	"fmt"

	"example.com/quartet/test/bench/measure"
)

// A part is what can be chosen to be measured.
type part struct {
	name, title string
	tables      []table
}

// A table is one comparison: what takes turns in it, and what it has to show.
type table struct {
	title       string
	contestants []contestant
	base        string // to which ratios are
	goals       []goal
	// memory says that it is about memory: processes are new in each round, for what a process has
	// once taken from the system it keeps, and uses again.
	memory bool
}

// contestant is a variant under a load.
type contestant struct {
	name    string // the variant's, and more if the load is not the table's
	variant string
	Load
}

// parts are all that can be measured, for slices of so many bytes.
func parts(bytes int64) []part {
	return []part{
		{"web", "Downloads in browsers", []table{downloadByWeb(bytes)}},
		{"download", "Downloads", []table{downloadOne(bytes), downloadMany(4, bytes), downloadMany(most, bytes)}},
		{"upload", "Uploads", []table{uploadOne(bytes), uploadMany(4, bytes), uploadMany(most, bytes)}},
		{"memory", "Memory", []table{memory(false, bytes), memory(true, bytes)}},
		{smallPart, "Small objects, and a list", nil},
		{s3Part, "Through S3", []table{throughS3(false, bytes), throughS3(true, bytes), memoryOfS3(bytes)}},
	}
}

// s3Part is the one that needs a gateway.
const s3Part = "s3"

// under has variants take turns under one load.
func under(load Load, names ...string) (all []contestant) {
	for _, name := range names {
		all = append(all, contestant{name, name, load})
	}
	return all
}

func downloadOne(bytes int64) table {
	return table{
		title: fmt.Sprintf("1 download of %s", size(bytes)),
		base:  h1Name,
		contestants: under(Load{Transfers: 1, Bytes: bytes},
			rawName, rawFastName, h1Name, h1FastName, h2cName, h2cFastName,
			naiveName, naiveSumsName, naiveFastName, naiveFastSums, bareName, oursFastName),
		goals: append(goalsOfOne(oursFastName),
			measure.AtLeast(oursFastName, h1FastName, rate, 0.80),
			measure.AtLeast(oursFastName, bareName, rate, 0.70)),
	}
}

// goalsOfOne are those of any transfer on one connection.
func goalsOfOne(name string) []goal {
	return []goal{
		measure.AtLeast(name, h2cName, rate, 1),
		measure.AtLeast(name, naiveName, rate, 1.6),
		measure.AtMost(name, naiveName, cpu, 0.6),
	}
}

// many has so many transfers at once, which together are a slice, and beside them one of HTTP/1.1
// alone.
func many(upload bool, transfers int, bytes int64) []contestant {
	share := Load{Upload: upload, Transfers: transfers, Bytes: bytes / int64(transfers)}
	alone := contestant{h1Name + aloneSuffix, h1Name, Load{Upload: upload, Transfers: 1, Bytes: bytes}}
	return append(under(share,
		rawName, h1Name, h2cName, naiveName, bareName, oursFastName, oursOwnFast), alone)
}

// aloneSuffix is behind the name of the one that has no others at its side.
const aloneSuffix = ", 1 alone"

// downloadByWeb is a download through the port for browsers, by a stock client of Connect.
func downloadByWeb(bytes int64) table {
	return table{
		title:       fmt.Sprintf("1 download of %s through the port for browsers", size(bytes)),
		base:        oursFastName,
		contestants: under(Load{Transfers: 1, Bytes: bytes}, h1FastName, oursFastName, webName, web2Name),
		goals:       []goal{measure.AtLeast(webName, oursFastName, rate, 0.6)},
	}
}

func downloadMany(transfers int, bytes int64) table {
	t := table{
		title:       fmt.Sprintf("%d downloads at once, of %s each", transfers, size(bytes/int64(transfers))),
		base:        h1Name + aloneSuffix,
		contestants: many(false, transfers, bytes),
	}
	if transfers == 4 {
		t.goals = []goal{measure.AtLeast(oursOwnFast, bareName, rate, 0.90)}
	}
	return t
}

func uploadOne(bytes int64) table {
	return table{
		title: fmt.Sprintf("1 upload of %s", size(bytes)),
		base:  h1Name,
		contestants: under(Load{Upload: true, Transfers: 1, Bytes: bytes},
			rawName, rawFastName, h1Name, h1FastName, h1DiskName, h1SyncedName, h2cName, h2cFastName,
			naiveName, naiveSumsName, naiveFastName, naiveFastSums, bareName, oursFastName, oursDiskName),
		goals: append(goalsOfOne(oursFastName),
			measure.AtLeast(oursFastName, h1FastName, rate, 0.90),
			measure.AtLeast(oursFastName, naiveFastName, rate, 1.6)),
	}
}

func uploadMany(transfers int, bytes int64) table {
	return table{
		title:       fmt.Sprintf("%d uploads at once, of %s each", transfers, size(bytes/int64(transfers))),
		base:        h1Name + aloneSuffix,
		contestants: many(true, transfers, bytes),
	}
}

// memory has one transfer, one that is four times as long, and many at once.
func memory(upload bool, bytes int64) table {
	t := table{title: "Growth, downloads", memory: true}
	if upload {
		t.title = "Growth, uploads"
	}
	add := func(name string, transfers int, each int64) string {
		return t.add(name, Load{Upload: upload, Transfers: transfers, Bytes: each})
	}
	add(h1FastName, 1, bytes)
	add(h2cFastName, 1, bytes)
	add(naiveFastName, 1, bytes)
	add(naiveFastName, most, bytes/4)
	one, long := add(oursFastName, 1, bytes), add(oursFastName, 1, 4*bytes)
	shared, own := add(oursFastName, most, bytes/4), add(oursOwnFast, most, bytes/4)
	t.goals = []goal{
		grows(one, 32), grows(long, 32), growsPerMore(shared, one, 4), growsPerMore(own, one, 4),
	}
	return t
}

// memoryOfS3 is about what uploads take while the store has to be given whole parts.
func memoryOfS3(bytes int64) table {
	t := table{title: "Growth, uploads through S3", memory: true}
	one := t.add(oursThroughS3, Load{Upload: true, Transfers: 1, Bytes: bytes})
	many := t.add(oursThroughS3, Load{Upload: true, Transfers: most, Bytes: bytes / 4})
	t.goals = []goal{grows(one, 32), growsPerMore(many, one, 8)} // A part is 8 MiB.
	return t
}

// add has a variant take part in a table of memory, under a name that tells the load.
func (t *table) add(name string, load Load) string {
	label := fmt.Sprintf("%s, %d × %s", name, load.Transfers, size(load.Bytes))
	t.contestants = append(t.contestants, contestant{label, name, load})
	return label
}

// throughS3 has beside the plain client what ours consists of: gRPC without a store and, for
// uploads, the same requests to the gateway without gRPC.
func throughS3(upload bool, bytes int64) table {
	t := table{
		title: fmt.Sprintf("1 download of %s", size(bytes)),
		base:  plainS3Name,
		goals: []goal{measure.AtLeast(oursThroughS3, plainS3Name, rate, 0.55)},
	}
	names := []string{plainS3Name, bareName, oursThroughS3}
	if upload {
		t.title = fmt.Sprintf("1 upload of %s", size(bytes))
		t.goals = []goal{
			measure.AtLeast(oursThroughS3, plainS3Name, rate, 0.95),
			measure.AtLeast(oursThroughS3, partsS3Name, rate, 0.95),
		}
		names = append(names, partsS3Name)
	}
	t.contestants = under(Load{Upload: upload, Transfers: 1, Bytes: bytes}, names...)
	return t
}

func size(bytes int64) string {
	if bytes < mebi {
		return fmt.Sprintf("%d KiB", bytes>>10)
	}
	return fmt.Sprintf("%d MiB", bytes>>20)
}
