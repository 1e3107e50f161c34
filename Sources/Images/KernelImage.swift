/// The compressed kernel inside a bzImage.
///
/// The boot protocol's setup header locates it: `payload_offset` (0x248) and `payload_length` (0x24c), counted from the
/// protected-mode code, which starts after `setup_sects` (0x1f1) + 1 sectors. The last four bytes of the payload are
/// the uncompressed length, little endian. Source: kernel Documentation/arch/x86/boot.rst.
struct KernelImage: Equatable, Sendable {
  /// Compression of a payload, detected by its magic; the raw value names the program that decompresses it.
  enum Compression: String, Sendable, CaseIterable {
    case lz4
    case gzip
    case xz
    case zstd

    var magic: [UInt8] {
      switch self {
      case .lz4: [0x02, 0x21, 0x4C, 0x18]
      case .gzip: [0x1F, 0x8B]
      case .xz: [0xFD, 0x37, 0x7A, 0x58, 0x5A, 0x00]
      case .zstd: [0x28, 0xB5, 0x2F, 0xFD]
      }
    }
  }

  static let maximumBytes = 64 << 20
  /// A larger uncompressed length is treated as a damaged header.
  static let maximumUncompressedBytes = 512 << 20
  static let elfMagic: [UInt8] = [0x7F, 0x45, 0x4C, 0x46]

  let compression: Compression
  /// Range of the compressed bytes in the file, without the length field that follows.
  let payload: Range<Int>
  let uncompressedBytes: Int

  /// - Throws: `ManifestError` when the file is not a bzImage of boot protocol 2.08 or later with a known compression.
  init(parsing file: [UInt8]) throws(ManifestError) {
    guard file.count > 0x260, Array(file[0x202..<0x206]) == Array("HdrS".utf8) else {
      throw ManifestError("not a bzImage")
    }
    guard Self.number(file, 0x206, 2) >= 0x0208 else { throw ManifestError("the boot protocol is older than 2.08") }
    let setupSectors = file[0x1F1] == 0 ? 4 : Int(file[0x1F1])
    let start = (setupSectors + 1) * 512 + Self.number(file, 0x248, 4)
    let length = Self.number(file, 0x24C, 4)
    guard length > 8, start <= file.count, length <= file.count - start else {
      throw ManifestError("the payload is not inside the file")
    }
    payload = start..<start + length - 4
    uncompressedBytes = Self.number(file, start + length - 4, 4)
    guard (1...Self.maximumUncompressedBytes).contains(uncompressedBytes) else {
      throw ManifestError("the payload's length is out of bounds")
    }
    let found = Compression.allCases.first { file[start...].starts(with: $0.magic) }
    guard let found else { throw ManifestError("the payload's compression is unknown") }
    compression = found
  }

  private static func number(_ file: [UInt8], _ offset: Int, _ count: Int) -> Int {
    (0..<count).reduce(0) { $0 | Int(file[offset + $1]) << (8 * $1) }
  }
}
