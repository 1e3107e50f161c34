import Foundation
import Hypervisor

/// The node of QEMU's block layer that the guest's disk is: `disk0` at first, one more with every switch to a new
/// overlay.
struct DiskNode: Equatable {
  static let first = DiskNode(number: 0)
  private static let prefix = "disk"

  let number: Int

  var name: String { "\(Self.prefix)\(number)" }
  var next: DiskNode { DiskNode(number: number + 1) }

  init(number: Int) {
    self.number = number
  }

  /// Nil for names that are not ours.
  init?(name: String) {
    guard name.hasPrefix(Self.prefix), let number = Int(name.dropFirst(Self.prefix.count)),
      (0..<Int.max).contains(number)
    else {
      return nil
    }
    self.number = number
  }

  /// Arguments of `blockdev-add` that open `disk` as this node, without what is below it, with the options of the
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
