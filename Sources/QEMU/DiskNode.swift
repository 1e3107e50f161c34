import Foundation
import Hypervisor
import LinuxSystem

/// A file of the guest's disk as a node of QEMU's block layer.
///
/// Each file is two nodes: the format's, called as the file, and below it the open file's. QEMU finds the descriptors
/// in a set of its own (`/dev/fdset/N`), and takes the one with the access mode it wants; the set is marked with the
/// file's name. What a node lies over is always said, so that QEMU never looks for a name in the file's header.
///
/// Source: QEMU 7.2 documentation, interop/qemu-qmp-ref (blockdev-add, add-fd), qemu(1) (-add-fd, -blockdev).
struct DiskNode {
  let name: String
  let format: DiskAttachment.Format
  let isWritable: Bool

  init(_ file: DiskAttachment.File) {
    name = file.name
    format = file.format
    isWritable = file.writable != nil
  }

  /// Name of the node of the open file.
  var fileName: String { name + Self.fileSuffix }
  static let fileSuffix = ".f"

  /// Options that make both nodes over the descriptors of `set`.
  func opening(set: Int, over backing: String?) -> [String: any Sendable] {
    var file: [String: any Sendable] = [
      "driver": "file", "node-name": fileName, "filename": "/dev/fdset/\(set)", "read-only": !isWritable,
    ]
    if isWritable { file.merge(Self.writing) { $1 } }
    return options(over: backing).merging(["file": file]) { $1 }
  }

  /// Options that put the open node over `backing`; what they do not name goes back to QEMU's defaults.
  func reopening(over backing: String?) -> [String: any Sendable] {
    options(over: backing).merging(["file": fileName]) { $1 }
  }

  private func options(over backing: String?) -> [String: any Sendable] {
    var options: [String: any Sendable] = [
      "driver": format.rawValue, "node-name": name, "read-only": !isWritable,
    ]
    if isWritable {
      options.merge(Self.writing) { $1 }
      options["detect-zeroes"] = "unmap"
    }
    if format == .qcow2 { options["backing"] = backing ?? NSNull() }
    return options
  }

  private static let writing: [String: any Sendable] = [
    "discard": "unmap", "cache": ["direct": false, "no-flush": true] as [String: any Sendable],
  ]
}

/// The disk on the command line of a new VMM.
struct DiskArguments {
  /// Numbers of the descriptors in the VMM begin here; those below are for other things.
  static let firstDescriptor: Int32 = 16

  private(set) var list: [String] = []
  /// Child descriptor number → ours.
  private(set) var descriptors: [Int32: Int32] = [:]

  init(_ disk: DiskAttachment) {
    var backing: String?
    for (set, file) in (disk.layers.reversed() + [disk.disk]).enumerated() {
      add(file.readable.rawValue, to: set, file.name)
      if let writable = file.writable { add(writable.rawValue, to: set, file.name) }
      list += ["-blockdev", Self.json(DiskNode(file).opening(set: set, over: backing))]
      backing = file.name
    }
  }

  private mutating func add(_ descriptor: Int32, to set: Int, _ name: String) {
    let number = Self.firstDescriptor + Int32(descriptors.count)
    descriptors[number] = descriptor
    list += ["-add-fd", "fd=\(number),set=\(set),opaque=\(name)"]
  }

  private static func json(_ options: [String: any Sendable]) -> String {
    let data = try? JSONSerialization.data(withJSONObject: options, options: [.sortedKeys, .withoutEscapingSlashes])
    guard let data else { preconditionFailure("the options of a disk are no JSON") }
    return String(decoding: data, as: UTF8.self)
  }
}

/// An entry of `query-block`'s answer, as far as it matters here.
struct BlockDevice: Decodable {
  struct Medium: Decodable {
    let file: String
    let nodeName: String?

    enum CodingKeys: String, CodingKey {
      case file
      case nodeName = "node-name"
    }
  }

  let device: String
  let inserted: Medium?
}

/// An entry of `query-fdsets`'s answer.
struct DescriptorSet: Decodable {
  struct Member: Decodable {
    let opaque: String?
  }

  let id: Int
  let members: [Member]

  enum CodingKeys: String, CodingKey {
    case id = "fdset-id"
    case members = "fds"
  }
}
