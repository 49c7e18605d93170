package cli

import (
	"fmt"
	"strings"
	"time"
)

// How often progress is shown: a bar has to move, and a log must not fill up.
const (
	barInterval  = 100 * time.Millisecond
	lineInterval = 2 * time.Second
	// barWidth is in characters, without the brackets.
	barWidth = 16
)

// Progress shows the progress of a transfer: as a bar on a terminal, and as a line every two
// seconds elsewhere.
type Progress struct {
	command *command
	doing   string // "downloading", say
	// start is when this run began, and shown when it last showed something.
	start time.Time
	shown time.Time
	// done, safe and total are in bytes; total is -1 while it is not known.
	done, safe, total int64
	// resumes is how often the stream has been continued after a break.
	resumes int
	// continued says that another run has begun the transfer; base is what it did, which does not
	// count for this one's rate.
	continued bool
	base      int64
}

// NewProgress begins to show the progress of something: "downloading". continued says that an
// earlier run has begun it.
func (c *Terminal) NewProgress(doing string, continued bool) *Progress {
	// shown starts now, so that what is over in two seconds shows no line at all.
	p := &Progress{
		command:   c.command,
		doing:     doing,
		continued: continued,
		start:     time.Now(),
		shown:     time.Now(),
		total:     -1,
	}
	// The line of an outage has how far this is.
	c.command.progress = p
	return p
}

// Update says that so many bytes of total are done, -1 for an unknown total, and how many of them
// are known to stay so whatever happens, after so many resumes. It may be called as often as there
// is something to say.
func (p *Progress) Update(done, safe, total int64, resumes int) {
	// Bytes have come or were taken, so that an outage is over.
	p.command.outage.back()
	// The first Update of a continued transfer says what the run before it did.
	if p.continued {
		p.base, p.continued = done, false
	}
	p.done, p.safe, p.total, p.resumes = done, safe, total, resumes
	// width is set on a terminal only.
	interval, bar := lineInterval, p.command.stderr.width != nil
	if bar {
		interval = barInterval
	}
	if p.command.quiet || time.Since(p.shown) < interval {
		return
	}
	p.shown = time.Now()
	if bar {
		p.command.stderr.show(p.bar() + " " + p.String())
	} else {
		p.command.note("%s %s", p.doing, p)
	}
}

// End reports the result, what being the name of that which was transferred.
func (p *Progress) End(what string) {
	// Without an Update, or without a byte more than the earlier run had, nothing was left to do.
	if p.continued || p.base > 0 && p.base == p.done {
		p.command.note("%s: it was complete already, nothing had to be transferred", what)
		return
	}
	if p.done == 0 {
		p.command.note("%s: it is empty", what)
		return
	}
	p.command.note(
		"%s: %s in %s, %s/s%s",
		what,
		Size(p.done),
		round(time.Since(p.start)),
		Size(p.rate()),
		p.resumed(),
	)
}

// String is how far it is: "1.2 GiB of 3.0 GiB (40%), 98.1 MiB/s, 19s left".
func (p *Progress) String() string {
	if p.total <= 0 {
		return fmt.Sprintf("%s, %s/s%s", Size(p.done), Size(p.rate()), p.resumed())
	}
	left := ""
	if rate := p.rate(); rate > 0 {
		left = fmt.Sprintf(
			", %s left",
			round(time.Duration(float64(p.total-p.done)/float64(rate)*float64(time.Second))),
		)
	}
	return fmt.Sprintf("%s of %s (%d%%), %s/s%s%s",
		Size(p.done), Size(p.total), p.done*100/p.total, Size(p.rate()), left, p.resumed())
}

// sofar is how much of it is safe, or at least was on its way: ", 850.0 MiB of 913.0 MiB are safe".
func (p *Progress) sofar() string {
	switch {
	// An outage may come to a command that transfers nothing.
	case p == nil || p.done == 0:
		return ""
	case p.safe > 0 && p.total > 0:
		return fmt.Sprintf(", %s of %s are safe", Size(p.safe), Size(p.total))
	case p.safe > 0:
		return fmt.Sprintf(", %s are safe", Size(p.safe))
	case p.total > 0:
		return fmt.Sprintf(" at %s of %s", Size(p.done), Size(p.total))
	default:
		return fmt.Sprintf(" at %s", Size(p.done))
	}
}

// bar leaves room for the rest in 80 columns.
func (p *Progress) bar() string {
	if p.total <= 0 {
		return p.doing
	}
	// More than the whole can be done if the total was a guess.
	full := int(min(p.done*barWidth/p.total, barWidth))
	return "[" + strings.Repeat("=", full) + strings.Repeat(" ", barWidth-full) + "]"
}

// rate is in bytes per second since the beginning.
func (p *Progress) rate() int64 {
	// At least a millisecond, so that a transfer that ends at once divides by no zero.
	return int64(float64(max(p.done-p.base, 0)) / max(time.Since(p.start).Seconds(), 1e-3))
}

// resumed says how often the stream was resumed, as the end of a sentence.
func (p *Progress) resumed() string {
	switch p.resumes {
	case 0:
		return ""
	case 1:
		return ", 1 resume"
	default:
		return fmt.Sprintf(", %d resumes", p.resumes)
	}
}

// round drops digits that no reader needs.
func round(d time.Duration) time.Duration {
	if d < 10*time.Second {
		return d.Round(10 * time.Millisecond)
	}
	return d.Round(time.Second)
}
