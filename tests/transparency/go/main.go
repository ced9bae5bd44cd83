// Checks a log's public files with golang.org/x/mod/sumdb: the code that checks every `go get` against Go's own log.
//
// It shares no line with the Python that writes and reads these files, speaks the same formats (signed notes, RFC 6962
// trees, tiles of 256), is maintained by others, and Debian packages it (golang-golang-x-mod-dev), so that a test needs
// no registry for it. On PyPI, sigstore reads only one shape of note, and pymerkle has no notes and no tiles.
//
// Usage: main FOLDER VKEY [-cosigner VKEY]... [-proof FILE]... [-older CHECKPOINT]...
// Prints one line of JSON, exit status 0; anything that does not fit ends it with 1.
package main

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

type tree struct {
	size int64
	root tlog.Hash
}

// cosigner verifies C2SP cosignatures (type 04), which sumdb/note does not know.
type cosigner struct {
	name string
	hash uint32
	key  ed25519.PublicKey
}

func (c cosigner) Name() string    { return c.name }
func (c cosigner) KeyHash() uint32 { return c.hash }
func (c cosigner) Verify(text, sig []byte) bool {
	if len(sig) != 8+ed25519.SignatureSize {
		return false
	}
	signed := fmt.Sprintf("cosignature/v1\ntime %d\n%s", binary.BigEndian.Uint64(sig), text)
	return ed25519.Verify(c.key, []byte(signed), sig[8:])
}

func newCosigner(vkey string) note.Verifier {
	parts := strings.SplitN(vkey, "+", 3)
	key := must(base64.StdEncoding.DecodeString(parts[2]))
	if key[0] != 4 || len(key) != 33 {
		fail(errors.New("not a cosigner's key"))
	}
	digest := sha256.Sum256([]byte(parts[0] + "\n" + string(key)))
	return cosigner{parts[0], binary.BigEndian.Uint32(digest[:]), key[1:]}
}

func open(data []byte, vkey string, cosigners []string) tree {
	known := []note.Verifier{must(note.NewVerifier(vkey))}
	for _, one := range cosigners {
		known = append(known, newCosigner(one))
	}
	opened := must(note.Open(data, note.VerifierList(known...)))
	if len(opened.Sigs) != len(known) {
		fail(fmt.Errorf("%d of %d keys signed", len(opened.Sigs), len(known)))
	}
	lines := strings.Split(opened.Text, "\n")
	if lines[0] != known[0].Name() || len(lines) != 4 {
		fail(errors.New("not a checkpoint of this log"))
	}
	return tree{must(strconv.ParseInt(lines[1], 10, 64)), must(tlog.ParseHash(lines[2]))}
}

// tiles reads hashes out of a folder; TileHashReader authenticates each up to the tree's root.
type tiles string

func (t tiles) Height() int                    { return 8 }
func (t tiles) SaveTiles([]tlog.Tile, [][]byte) {}
func (t tiles) ReadTiles(wanted []tlog.Tile) ([][]byte, error) {
	var all [][]byte
	for _, tile := range wanted {
		// sumdb names the height in the path, tlog-tiles does not.
		data, err := os.ReadFile(filepath.Join(string(t), "tile", strings.TrimPrefix(tile.Path(), "tile/8/")))
		if err != nil {
			return nil, err
		}
		all = append(all, data)
	}
	return all, nil
}

// entries reads every bundle and computes the root again, from the entries alone.
func entries(folder string, size int64) ([]tlog.Hash, tlog.Hash) {
	var leaves, stored []tlog.Hash
	reader := tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		var found []tlog.Hash
		for _, index := range indexes {
			found = append(found, stored[index])
		}
		return found, nil
	})
	for n := int64(0); n*256 < size; n++ {
		width := size - n*256
		if width > 256 {
			width = 256
		}
		path := (tlog.Tile{H: 8, L: -1, N: n, W: int(width)}).Path() // tile/8/data/...
		data := must(os.ReadFile(filepath.Join(folder, "tile", "entries", strings.TrimPrefix(path, "tile/8/data/"))))
		for i := int64(0); i < width; i++ {
			length := int(binary.BigEndian.Uint16(data))
			entry := data[2 : 2+length]
			data = data[2+length:]
			stored = append(stored, must(tlog.StoredHashes(n*256+i, entry, reader))...)
			leaves = append(leaves, tlog.RecordHash(entry))
		}
		if len(data) > 0 {
			fail(errors.New("bytes after the last entry"))
		}
	}
	if size == 0 {
		return leaves, tlog.Hash(sha256.Sum256(nil))
	}
	return leaves, must(tlog.TreeHash(size, reader))
}

func checkProof(file, vkey string, cosigners []string, leaves []tlog.Hash) {
	parts := bytes.SplitN(must(os.ReadFile(file)), []byte("\n\n"), 2)
	lines := strings.Split(string(parts[0]), "\n")
	if lines[0] != "c2sp.org/tlog-proof@v1" {
		fail(errors.New("not a proof"))
	}
	lines = lines[1:]
	if strings.HasPrefix(lines[0], "extra ") {
		lines = lines[1:]
	}
	index := must(strconv.ParseInt(strings.TrimPrefix(lines[0], "index "), 10, 64))
	var path tlog.RecordProof
	for _, line := range lines[1:] {
		path = append(path, must(tlog.ParseHash(line)))
	}
	covered := open(parts[1], vkey, cosigners)
	check(tlog.CheckRecord(path, covered.size, covered.root, index, leaves[index]))
}

func main() {
	folder, vkey := os.Args[1], os.Args[2]
	options := map[string][]string{}
	for i := 3; i+1 < len(os.Args); i += 2 {
		options[os.Args[i]] = append(options[os.Args[i]], os.Args[i+1])
	}
	newest := open(must(os.ReadFile(filepath.Join(folder, "checkpoint"))), vkey, options["-cosigner"])
	leaves, root := entries(folder, newest.size)
	if root != newest.root {
		fail(errors.New("the entries do not make the root"))
	}
	reader := tlog.TileHashReader(tlog.Tree{N: newest.size, Hash: newest.root}, tiles(folder))
	for index, leaf := range leaves {
		hashes := must(reader.ReadHashes([]int64{tlog.StoredHashIndex(0, int64(index))}))
		if hashes[0] != leaf {
			fail(fmt.Errorf("entry %d is not in its tile", index))
		}
	}
	for _, file := range options["-proof"] {
		checkProof(file, vkey, options["-cosigner"], leaves)
	}
	for _, file := range options["-older"] {
		older := open(must(os.ReadFile(file)), vkey, nil)
		path := must(tlog.ProveTree(newest.size, older.size, reader))
		check(tlog.CheckTree(path, newest.size, newest.root, older.size, older.root))
	}
	check(json.NewEncoder(os.Stdout).Encode(map[string]interface{}{"size": newest.size, "root": newest.root.String()}))
}

func must[T any](value T, err error) T {
	check(err)
	return value
}

func check(err error) {
	if err != nil {
		fail(err)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}
