// swift-tools-version: 6.2
// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import PackageDescription

let settings: [SwiftSetting] = [.swiftLanguageMode(.v6), .treatAllWarnings(as: .error)]

let package = Package(
    name: "TestKitConsumer",
    dependencies: [.package(name: "bastion", path: "../../..")],
    targets: [
        .target(
            name: "Shop",
            dependencies: [.product(name: "Supervision", package: "bastion")],
            swiftSettings: settings
        ),
        // With no test framework at all.
        .executableTarget(
            name: "TestKitConsumer",
            dependencies: ["Shop", .product(name: "RuntimeTestKit", package: "bastion")],
            swiftSettings: settings
        ),
        .testTarget(
            name: "ShopTests",
            dependencies: ["Shop", .product(name: "RuntimeTestKit", package: "bastion")],
            swiftSettings: settings
        ),
    ]
)
