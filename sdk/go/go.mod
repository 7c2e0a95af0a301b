module github.com/tqserver/tqserver/sdk/go

go 1.21
