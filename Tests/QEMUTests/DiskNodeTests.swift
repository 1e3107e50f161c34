import Foundation
import Hypervisor
import Testing

@testable import QEMU

@Suite struct DiskNodeTests {
  @Test("nodes are numbered, and the next name follows from the number")
  func names() {
    #expect(DiskNode.first.name == "disk0")
    #expect(DiskNode(name: "disk41")?.next.name == "disk42")
  }

  @Test(
    "names of another form are not nodes",
    arguments: ["", "disk", "disk-1", "#block123", "disk1x", "disk9223372036854775807"])
  func foreign(name: String) {
    #expect(DiskNode(name: name) == nil)
  }

  @Test("an overlay is opened without its backing files, which are open already")
  func opening() throws {
    let arguments = DiskNode.first.opening(DiskAttachment(path: "/a,b/new.qcow2", format: .qcow2))
    let text = String(
      decoding: try JSONSerialization.data(withJSONObject: arguments, options: [.sortedKeys, .withoutEscapingSlashes]),
      as: UTF8.self)
    #expect(
      text
        == #"{"backing":null,"cache":{"direct":false,"no-flush":true},"detect-zeroes":"unmap","discard":"unmap","#
        + #""driver":"qcow2","file":{"driver":"file","filename":"/a,b/new.qcow2"},"node-name":"disk0"}"#)
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
