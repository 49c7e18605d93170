package config_test

import (
	"fmt"

	"example.com/quartet/internal/config"
)

// Settings are a struct with tags. All mistakes are reported at once, each with the name of its
// variable.
func ExampleLoad() {
	type settings struct {
		Part  config.Bytes `env:"PART_BYTES" envDefault:"8MiB" desc:"size of a part"`
		Limit int          `env:"LIMIT" envDefault:"10" desc:"how many there may be"`
	}

	var orders settings
	err := config.Load(
		"SHOP_",
		[]string{"SHOP_ORDER_PART_BYTES=1MiB"},
		config.Group{Prefix: "ORDER_", Into: &orders},
	)
	fmt.Println(orders.Part, orders.Limit, err)

	err = config.Load("SHOP_", []string{"SHOP_ORDER_LIMIT=many", "SHOP_ORDER_PART_BITES=1MiB"},
		config.Group{Prefix: "ORDER_", Into: &orders})
	fmt.Println(err)
	// Output:
	// 1MiB 10 <nil>
	// SHOP_ORDER_PART_BITES: no such variable, did you mean SHOP_ORDER_PART_BYTES?
	// SHOP_ORDER_LIMIT="many": strconv.ParseInt: parsing "many": invalid syntax
}
