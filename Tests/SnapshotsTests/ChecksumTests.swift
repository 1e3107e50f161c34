import CLinux
import Testing

@testable import Snapshots

@Suite("CRC-32C")
struct ChecksumTests {
  @Test("the check value of the Castagnoli polynomial is right")
  func check() {
    #expect(Checksum.of(Array("123456789".utf8)) == 0xE306_9283)
    #expect(Checksum.of([]) == 0)
    // RFC 3720, appendix B.4.
    #expect(Checksum.of([UInt8](repeating: 0, count: 32)) == 0x8A91_36AA)
    #expect(Checksum.of([UInt8](repeating: 0xFF, count: 32)) == 0x62A8_AB43)
  }

  @Test("with and without the checksum instruction the result is the same, for every length and alignment")
  func portable() {
    var random = Seeded(1)
    let bytes = (0..<12_000).map { _ in UInt8.random(in: 0...255, using: &random) }
    bytes.withUnsafeBytes { buffer in
      guard let base = buffer.baseAddress else { return }
      for count in [0, 1, 7, 8, 9, 63, 1_359, 1_360, 4_079, 4_080, 4_081, 4_096, 8_160, 11_000] {
        for offset in 0..<9 {
          #expect(clinux_crc32c(3, base + offset, count) == clinux_crc32c_portable(3, base + offset, count))
        }
      }
    }
  }

  @Test("a checksum can be computed in pieces")
  func pieces() {
    let bytes = [UInt8](repeating: 0x5A, count: 9_000)
    let first = clinux_crc32c(0, bytes, 4_999)
    let rest = Array(bytes[4_999...])
    #expect(clinux_crc32c(first, rest, rest.count) == Checksum.of(bytes))
  }

  @Test("a single non-zero byte at any place is detected", arguments: [16, 17, 4_096])
  func zero(count: Int) {
    var bytes = [UInt8](repeating: 0, count: count)
    #expect(clinux_is_zero(bytes, count) == 1)
    for index in bytes.indices {
      bytes[index] = 1
      #expect(clinux_is_zero(bytes, count) == 0)
      bytes[index] = 0
    }
  }
}
