package broker

import "testing"

func TestNamesBeginWithTheProducts(t *testing.T) {
	for product, want := range map[string]names{
		"orders": {"ORDERS_CHANNELS", "orders.channel.", "orders.live.", "Orders-Participant",
			"Orders-Message-Id"},
		"big_shop": {"BIG_SHOP_CHANNELS", "big_shop.channel.", "big_shop.live.", "Big-Shop-Participant",
			"Big-Shop-Message-Id"},
	} {
		if got := namesOf(product, ""); got != want {
			t.Errorf("%s: got %+v, want %+v", product, got, want)
		}
	}
}
