// CRC-32C (Castagnoli), as the server computes it of every object.
const table = Uint32Array.from({ length: 256 }, (_, n) => {
  for (let bit = 0; bit < 8; bit++) n = n & 1 ? 0x82f63b78 ^ (n >>> 1) : n >>> 1
  return n
})

// crc32c goes on from the checksum of what was before.
export function crc32c(data, before = 0) {
  let crc = ~before
  for (let i = 0; i < data.length; i++) crc = table[(crc ^ data[i]) & 0xff] ^ (crc >>> 8)
  return ~crc >>> 0
}
