package object

import (
	"context"
	"encoding/binary"
	"encoding/gob"
	"errors"
	"io"
	"net"
)

// rawServer answers on bare TCP, a connection for each transfer: no protocol can be faster.
type rawServer struct{ *store }

func (s rawServer) serve(listener net.Listener) error {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer conn.Close()
			_ = s.answer(conn) // The client sees that the connection ended early.
		}()
	}
}

func (s rawServer) answer(conn net.Conn) error {
	job, err := readJob(conn)
	if err != nil {
		return err
	}
	if !job.Upload {
		return s.give(job, conn)
	}
	sum, err := s.take(job, io.LimitReader(conn, job.Bytes))
	if err != nil {
		return err
	}
	return gob.NewEncoder(conn).Encode(sum)
}

// readJob reads no byte more than the job has.
func readJob(r io.Reader) (Job, error) {
	var size uint16
	if err := binary.Read(r, binary.BigEndian, &size); err != nil {
		return Job{}, err
	}
	text := make([]byte, size)
	if _, err := io.ReadFull(r, text); err != nil {
		return Job{}, err
	}
	return parseJob(string(text))
}

func writeJob(w io.Writer, job Job) error {
	text := job.String()
	return errors.Join(
		binary.Write(w, binary.BigEndian, uint16(len(text))), ignoreCount(io.WriteString(w, text)),
	)
}

func ignoreCount(_ int, err error) error { return err }

// rawClient is the other end.
type rawClient struct {
	alike
	address string
}

func (c rawClient) dial(ctx context.Context, job Job) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", c.address)
	if err != nil {
		return nil, err
	}
	return conn, writeJob(conn, job)
}

func (c rawClient) download(ctx context.Context, job Job) (Sum, error) {
	conn, err := c.dial(ctx, job)
	if err != nil {
		return Sum{}, err
	}
	defer conn.Close()
	got := &sink{check: job.Check}
	err = copyAll(got, conn, make([]byte, bufferBytes))
	return got.Sum, err
}

func (c rawClient) upload(ctx context.Context, job Job) (sum Sum, err error) {
	conn, err := c.dial(ctx, job)
	if err != nil {
		return Sum{}, err
	}
	defer conn.Close()
	if _, err := newContent(job.Bytes).WriteTo(conn); err != nil {
		return Sum{}, err
	}
	err = gob.NewDecoder(conn).Decode(&sum)
	return sum, err
}
