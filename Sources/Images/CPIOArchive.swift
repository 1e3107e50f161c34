/// Writes the "newc" cpio format that the kernel unpacks as an initramfs.
///
/// Entry: 110 bytes of ASCII header (magic `070701`, 13 fields of 8 hexadecimal digits), name with NUL padded to 4
/// bytes, content padded to 4 bytes. The archive ends with an entry named `TRAILER!!!`. The owner is root and times are
/// zero, so equal entries give equal bytes. Source: kernel Documentation/driver-api/early-userspace/buffer-format.rst.
struct CPIOArchive {
  private enum Kind {
    static let directory: UInt32 = 0o040000
    static let file: UInt32 = 0o100000
    static let symbolicLink: UInt32 = 0o120000
    static let characterDevice: UInt32 = 0o020000
  }

  private(set) var bytes: [UInt8] = []
  private var nextInode: UInt32 = 1

  mutating func addDirectory(_ name: String, permissions: UInt32 = 0o755) {
    append(name, mode: Kind.directory | permissions, links: 2)
  }

  mutating func addFile(_ name: String, content: [UInt8], permissions: UInt32) {
    append(name, mode: Kind.file | permissions, content: content)
  }

  mutating func addSymbolicLink(_ name: String, target: String) {
    append(name, mode: Kind.symbolicLink | 0o777, content: Array(target.utf8))
  }

  mutating func addCharacterDevice(_ name: String, major: UInt32, minor: UInt32, permissions: UInt32) {
    append(name, mode: Kind.characterDevice | permissions, device: (major, minor))
  }

  /// Ends the archive; nothing may be added afterwards.
  mutating func finish() -> [UInt8] {
    nextInode = 0
    append("TRAILER!!!", mode: 0)
    return bytes
  }

  private mutating func append(
    _ name: String, mode: UInt32, links: UInt32 = 1, content: [UInt8] = [],
    device: (major: UInt32, minor: UInt32) = (0, 0)
  ) {
    precondition(content.count <= Int(UInt32.max), "newc holds files below 4 GiB")
    let fields: [UInt32] = [
      nextInode, mode, 0, 0, links, 0, UInt32(content.count), 0, 0, device.major, device.minor,
      UInt32(name.utf8.count + 1), 0,
    ]
    nextInode += 1
    bytes.append(contentsOf: "070701".utf8)
    for field in fields { bytes.append(contentsOf: Self.hexadecimal(field)) }
    bytes.append(contentsOf: name.utf8)
    bytes.append(0)
    pad()
    bytes.append(contentsOf: content)
    pad()
  }

  private mutating func pad() {
    while bytes.count % 4 != 0 { bytes.append(0) }
  }

  private static func hexadecimal(_ value: UInt32) -> [UInt8] {
    let digits = Array(String(value, radix: 16).utf8)
    return [UInt8](repeating: UInt8(ascii: "0"), count: 8 - digits.count) + digits
  }
}
