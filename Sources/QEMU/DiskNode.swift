import Foundation
import Hypervisor

/// The node of the guest's disk in QEMU's block layer: `disk0` at first, and the next number after every switch to a
/// new overlay.
struct DiskNode: Equatable {
  static let first = DiskNode(number: 0)
  private static let prefix = "disk"

  let number: Int

  var name: String { "\(Self.prefix)\(number)" }
  var next: DiskNode { DiskNode(number: number + 1) }

  init(number: Int) {
    self.number = number
  }

  /// Nil for names of another form.
  init?(name: String) {
    guard name.hasPrefix(Self.prefix), let number = Int(name.dropFirst(Self.prefix.count)),
      (0..<Int.max).contains(number)
    else {
      return nil
    }
    self.number = number
  }

  /// Arguments of `blockdev-add` that open `disk` as this node, without its backing files, with the options of the
  /// command line's drive.
  func opening(_ disk: DiskAttachment) -> [String: any Sendable] {
    [
      "driver": disk.format.rawValue, "node-name": name,
      "file": ["driver": "file", "filename": disk.path] as [String: any Sendable],
      "backing": NSNull(), "discard": "unmap", "detect-zeroes": "unmap",
      "cache": ["direct": false, "no-flush": true] as [String: any Sendable],
    ]
  }
}

/// The used fields of an entry in the response of `query-block`.
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
