import Foundation
import Hypervisor
import LinuxSystem
import Testing

@testable import QEMU

@Suite struct DiskNodeTests {
  private func file(_ name: String, format: DiskAttachment.Format = .qcow2, isWritable: Bool) -> DiskAttachment.File {
    DiskAttachment.File(
      name: name, format: format, readable: OwnedDescriptor(-1), writable: isWritable ? OwnedDescriptor(-1) : nil)
  }

  private func json(_ options: [String: any Sendable]) throws -> String {
    let data = try JSONSerialization.data(withJSONObject: options, options: [.sortedKeys, .withoutEscapingSlashes])
    return String(decoding: data, as: UTF8.self)
  }

  @Test("an overlay is opened over descriptors, for writing, and over nothing until it is switched to")
  func opening() throws {
    #expect(
      try json(DiskNode(file("disk-1", isWritable: true)).opening(set: 3, over: nil))
        == #"{"backing":null,"cache":{"direct":false,"no-flush":true},"detect-zeroes":"unmap","discard":"unmap","#
        + #""driver":"qcow2","file":{"cache":{"direct":false,"no-flush":true},"discard":"unmap","driver":"file","#
        + #""filename":"/dev/fdset/3","node-name":"disk-1.f","read-only":false},"node-name":"disk-1","read-only":false}"#
    )
  }

  @Test("a layer is opened read-only, over the layer that it is said to lie over")
  func layer() throws {
    #expect(
      try json(DiskNode(file("layer-a", isWritable: false)).opening(set: 1, over: "image"))
        == #"{"backing":"image","driver":"qcow2","file":{"driver":"file","filename":"/dev/fdset/1","#
        + #""node-name":"layer-a.f","read-only":true},"node-name":"layer-a","read-only":true}"#)
  }

  @Test("every qcow2 node is told what it lies over, so that QEMU never looks into the header for it")
  func explicit() throws {
    for file in [file("disk-0", isWritable: true), file("layer-a", isWritable: false)] {
      for backing in [nil, "image"] {
        #expect(DiskNode(file).opening(set: 0, over: backing).keys.contains("backing"))
        #expect(DiskNode(file).reopening(over: backing).keys.contains("backing"))
      }
    }
    let raw = DiskNode(file("image", format: .raw, isWritable: false)).opening(set: 0, over: nil)
    #expect(!raw.keys.contains("backing"))
  }

  @Test("a chain is on the command line from the bottom up, each file as descriptors of its own")
  func chain() {
    let disk = DiskAttachment(
      disk: file("disk-0", isWritable: true),
      layers: [file("layer-a", isWritable: false), file("image", format: .raw, isWritable: false)])
    let arguments = DiskArguments(disk)
    #expect(
      arguments.list.filter { $0.hasPrefix("fd=") } == [
        "fd=16,set=0,opaque=image", "fd=17,set=1,opaque=layer-a", "fd=18,set=2,opaque=disk-0",
        "fd=19,set=2,opaque=disk-0",
      ])
    let nodes = arguments.list.filter { $0.hasPrefix("{") }
    #expect(nodes.count == 3 && nodes[2].contains(#""backing":"layer-a""#) && nodes[1].contains(#""backing":"image""#))
    #expect(arguments.descriptors.keys.sorted() == [16, 17, 18, 19])
  }
}

@Suite struct GuestProcessorTests {
  @Test("measurements of one counter give one description", arguments: [2_596_104, 2_596_120, 2_596_141])
  func rounding(kilohertz: Int) {
    #expect(GuestProcessor.describe(.tcg, tscKilohertz: kilohertz) == "max at 2600 MHz")
  }

  @Test("a real processor is described by name and numbers")
  func host() {
    let text =
      "processor\t: 0\ncpu family\t: 25\nmodel\t\t: 1\nmodel name\t: AMD EPYC 7B13\nstepping\t: 0\n\n"
      + "processor\t: 1\nmodel name\t: other\n"
    #expect(GuestProcessor.hostModel(text) == "AMD EPYC 7B13 (25.1.0)")
    #expect(GuestProcessor.hostModel("nonsense") == "? (?.?.?)")
  }

  @Test("the firmware's digest is its SHA-256")
  func digest() {
    #expect(
      QEMUInstallation.digest(Array("abc".utf8)) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
  }
}
